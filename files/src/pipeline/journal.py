"""What a service knows of each study, kept on disk so that any crash leaves it as it was."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS study (
    id TEXT PRIMARY KEY,
    uid TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
    -- How often it was noticed: a study that is noticed while it is worked on is not done when that work is.
    notices INTEGER NOT NULL,
    noticed_at REAL NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    last_update TEXT NOT NULL DEFAULT '',
    instances INTEGER NOT NULL DEFAULT 0,
    done_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS study_due ON study (due) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS study_uid ON study (uid);
CREATE TABLE IF NOT EXISTS held (
    study TEXT NOT NULL,
    holder TEXT NOT NULL,
    instance TEXT NOT NULL,
    file TEXT NOT NULL,
    uid TEXT NOT NULL DEFAULT '',
    series_uid TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (study, holder, instance)
) WITHOUT ROWID;
"""
# Before, what is held was known by Orthanc's identifiers alone.
_UIDS_OF_HELD = (
    "ALTER TABLE held ADD COLUMN uid TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE held ADD COLUMN series_uid TEXT NOT NULL DEFAULT ''",
)
_HELD_INSTANCE = "CREATE INDEX IF NOT EXISTS held_instance ON held (instance)"


@dataclass(frozen=True)
class Due:
    """A study to be worked on, how often it was noticed until then, and how often it was tried in vain."""

    id: str
    notices: int
    attempts: int


@dataclass(frozen=True)
class Held:
    """An instance that somebody has, or may have where it has no `file`.

    `instance` and `file` are Orthanc's names of it and of its version, the UIDs those by which the holder knows it.
    """

    instance: str
    file: str
    uid: str = ""
    series_uid: str = ""


@dataclass(frozen=True)
class Problem:
    """A study that waits after a failure, or was set aside (`state` failed). `next_attempt` is in seconds since 1970."""

    uid: str
    state: str
    attempts: int
    reason: str
    next_attempt: float


@dataclass(frozen=True)
class Count:
    """Studies in a state and their instances, as far as they are known."""

    studies: int
    instances: int


class Journal:
    """SQLite; every method is one transaction and may be called from any thread.

    A power cut may take the last transactions, never one of the middle: what they said is then found out again.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal, for this process alone; raise OSError where another one has it, or it can't be made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._owned = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"STATE_DIRECTORY {path.parent} is in use by another process: it may serve one alone.") from None
        self._turn = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)
        if "uid" not in {row[1] for row in self._database.execute("PRAGMA table_info(held)")}:
            for statement in _UIDS_OF_HELD:
                self._database.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def place(self) -> int:
        """Return the place in the change feed up to which all was noticed."""
        with self._turn:
            row = self._database.execute("SELECT value FROM note WHERE name = 'place'").fetchone()
        return int(row[0]) if row else 0

    def newest(self) -> str:
        """Return the newest date, in Orthanc's form, of what was read of the change feed."""
        with self._turn:
            row = self._database.execute("SELECT value FROM note WHERE name = 'newest'").fetchone()
        return str(row[0]) if row else ""

    def notice(self, studies: Iterable[str], place: int | None = None, newest: str = "") -> None:
        """Have studies worked on as soon as possible, and remember the place in the change feed at which they were noticed.

        `newest` is the newest date of what was read there.
        """
        now = time.time()
        with self._transaction() as database:
            for study in studies:
                database.execute(
                    """INSERT INTO study (id, state, notices, noticed_at, due) VALUES (?, 'waiting', 1, ?, ?)
                       ON CONFLICT (id) DO UPDATE SET notices = notices + 1, due = excluded.due, attempts = 0, state = 'waiting',
                           noticed_at = CASE state WHEN 'waiting' THEN noticed_at ELSE excluded.noticed_at END""",
                    (study, now, now),
                )
            if place is not None:
                database.execute(
                    "INSERT INTO note VALUES ('place', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (place,)
                )
                database.execute(
                    """INSERT INTO note VALUES ('newest', ?)
                       ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)""",
                    (newest,),
                )

    def due(self, most: int, but: Iterable[str]) -> list[Due]:
        """Return studies that are to be worked on now, the longest due first, leaving some out."""
        left_out = set(but)
        with self._turn:
            rows = self._database.execute(
                "SELECT id, notices, attempts FROM study WHERE state = 'waiting' AND due <= ? ORDER BY due LIMIT ?",
                (time.time(), most + len(left_out)),
            ).fetchall()
        return [Due(*row) for row in rows if row[0] not in left_out][:most]

    def bring_forward(self, seconds: float) -> int:
        """Have studies worked on now that are due in more than so many seconds: the clock was set back since. Return how many."""
        now = time.time()
        with self._transaction() as database:
            return database.execute("UPDATE study SET due = ? WHERE state = 'waiting' AND due > ?", (now, now + seconds)).rowcount

    def next_due(self, but: Iterable[str]) -> float | None:
        """Return when the next study is due, leaving some out, in seconds since 1970."""
        left_out = set(but)
        with self._turn:
            rows = self._database.execute(
                "SELECT id, due FROM study WHERE state = 'waiting' ORDER BY due LIMIT ?", (len(left_out) + 1,)
            ).fetchall()
        return next((float(due) for study, due in rows if study not in left_out), None)

    def know(self, study: str, uid: str, last_update: str, instances: int) -> None:
        """Write down what a study is, when it was changed last, and how many instances it has now."""
        with self._transaction() as database:
            database.execute(
                "UPDATE study SET uid = ?, last_update = ?, instances = ? WHERE id = ?", (uid, last_update, instances, study)
            )

    def finish(self, study: Due) -> bool:
        """Take a study as done, unless it was noticed again meanwhile; return whether it is."""
        with self._transaction() as database:
            done = database.execute(
                "UPDATE study SET state = 'done', attempts = 0, reason = '', done_at = ? WHERE id = ? AND notices = ?",
                (time.time(), study.id, study.notices),
            )
        return done.rowcount == 1

    def postpone(self, study: Due, until: float, reason: str, attempts: int) -> None:
        """Have a study wait until a time (seconds since 1970), unless it was noticed again meanwhile."""
        with self._transaction() as database:
            database.execute(
                "UPDATE study SET due = ?, reason = ?, attempts = ? WHERE id = ? AND notices = ?",
                (until, reason, attempts, study.id, study.notices),
            )

    def set_aside(self, study: Due, reason: str) -> None:
        """Give a study up until somebody brings it back, unless it was noticed again meanwhile."""
        with self._transaction() as database:
            database.execute(
                "UPDATE study SET state = 'failed', reason = ?, attempts = ? WHERE id = ? AND notices = ?",
                (reason, study.attempts + 1, study.id, study.notices),
            )

    def bring_back(self, uids: Iterable[str] | None) -> int:
        """Have studies tried again at once: those of these UIDs, or all that wait or were set aside. Return how many."""
        again = "UPDATE study SET state = 'waiting', due = ?, attempts = 0, notices = notices + 1"
        with self._transaction() as database:
            if uids is None:
                return database.execute(f"{again} WHERE state <> 'done'", (time.time(),)).rowcount
            return sum(database.execute(f"{again} WHERE uid = ? AND state <> 'done'", (time.time(), uid)).rowcount for uid in uids)

    def do_over(self, uids: Iterable[str]) -> int:
        """Forget what is held of studies, and have them worked on from the start. Return how many."""
        count = 0
        with self._transaction() as database:
            for uid in uids:
                database.execute("DELETE FROM held WHERE study IN (SELECT id FROM study WHERE uid = ?)", (uid,))
                count += database.execute(
                    "UPDATE study SET state = 'waiting', due = ?, attempts = 0, notices = notices + 1 WHERE uid = ?",
                    (time.time(), uid),
                ).rowcount
        return count

    def forget(self, study: str, notices: int | None = None) -> None:
        """Know nothing of a study any more; where it was noticed more often than so, it is still worked on."""
        with self._transaction() as database:
            database.execute("DELETE FROM held WHERE study = ?", (study,))
            database.execute("DELETE FROM study WHERE id = ? AND notices <= coalesce(?, notices)", (study, notices))

    def forget_held(self) -> None:
        """Know of nobody that he has anything."""
        with self._transaction() as database:
            database.execute("DELETE FROM held")

    def hold(self, study: str, holder: str, instances: Iterable[Held]) -> None:
        """Write down that `holder` (a server's name, the disk) has these instances."""
        with self._transaction() as database:
            database.executemany(
                """INSERT INTO held VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                   SET file = excluded.file, uid = excluded.uid, series_uid = excluded.series_uid""",
                [(study, holder, each.instance, each.file, each.uid, each.series_uid) for each in instances],
            )

    def let_go(self, study: str, holder: str, instances: Iterable[str]) -> None:
        """Write down that `holder` has these instances no longer."""
        with self._transaction() as database:
            database.executemany(
                "DELETE FROM held WHERE study = ? AND holder = ? AND instance = ?",
                [(study, holder, instance) for instance in instances],
            )

    def held(self, study: str, holder: str) -> dict[str, str]:
        """Return the instances of a study that `holder` has, and which version of each."""
        with self._turn:
            rows = self._database.execute("SELECT instance, file FROM held WHERE study = ? AND holder = ?", (study, holder))
            return dict(rows.fetchall())

    def holders(self, study: str) -> dict[str, list[Held]]:
        """Return who has instances of a study, and which."""
        made: dict[str, list[Held]] = {}
        with self._turn:
            rows = self._database.execute("SELECT holder, instance, file, uid, series_uid FROM held WHERE study = ?", (study,))
            for holder, *held in rows.fetchall():
                made.setdefault(holder, []).append(Held(*held))
        return made

    def held_of_others(self, study: str, holder: str) -> set[str]:
        """Return the UIDs of what `holder` has of other studies that have the same UID, such as another patient's."""
        with self._turn:
            rows = self._database.execute(
                """SELECT held.uid FROM study own JOIN study other ON other.uid = own.uid AND other.id <> own.id
                   JOIN held ON held.study = other.id AND held.holder = ? WHERE own.id = ? AND own.uid <> '' AND held.file <> ''""",
                (holder, study),
            )
            return {row[0] for row in rows.fetchall()}

    def prepare_for_deletions(self) -> None:
        """Have `notice_instance` find what it looks for at once, and have studies worked on of which something lacks its UIDs."""
        with self._transaction() as database:
            database.execute(_HELD_INSTANCE)
            database.execute(
                """UPDATE study SET state = 'waiting', due = ?, notices = notices + 1
                   WHERE state = 'done' AND id IN (SELECT study FROM held WHERE uid = '')""",
                (time.time(),),
            )

    def notice_instance(self, instance: str) -> None:
        """Have the study worked on of which somebody has this instance."""
        with self._turn:
            rows = self._database.execute("SELECT DISTINCT study FROM held WHERE instance = ?", (instance,)).fetchall()
        self.notice([row[0] for row in rows])

    def uid(self, study: str) -> str:
        """Return the UID of a study, as far as it is known."""
        with self._turn:
            row = self._database.execute("SELECT uid FROM study WHERE id = ?", (study,)).fetchone()
        return str(row[0]) if row else ""

    def studies(self) -> dict[str, int]:
        """Return all studies, and how many instances each has, as far as it is known."""
        with self._turn:
            return dict(self._database.execute("SELECT id, instances FROM study").fetchall())

    def is_new(self, study: str, last_update: str) -> bool:
        """Return whether a study, changed last at that time, would have to be noticed: it neither waits nor was worked on since."""
        with self._turn:
            row = self._database.execute("SELECT state, last_update FROM study WHERE id = ?", (study,)).fetchone()
        return row is None or (row[0] != "waiting" and row[1] != last_update)

    def done(self, before: float | None = None) -> list[str]:
        """Return the studies that are done, or were so before a time (seconds since 1970)."""
        with self._turn:
            rows = self._database.execute("SELECT id FROM study WHERE state = 'done' AND done_at <= ?", (before or time.time(),))
            return [row[0] for row in rows.fetchall()]

    def counts(self) -> dict[str, Count]:
        """Return how many studies are in each state."""
        counts = {state: Count(0, 0) for state in ("waiting", "done", "failed")}
        with self._turn:
            rows = self._database.execute("SELECT state, count(*), sum(instances) FROM study GROUP BY state").fetchall()
        return counts | {state: Count(studies, instances or 0) for state, studies, instances in rows}

    def held_count(self) -> int:
        """Return how many instances are held, by whom ever."""
        with self._turn:
            return int(self._database.execute("SELECT count(*) FROM held WHERE file <> ''").fetchone()[0])

    def waiting_since(self) -> float | None:
        """Return since when the study waits that waits the longest, in seconds since 1970."""
        with self._turn:
            row = self._database.execute("SELECT min(noticed_at) FROM study WHERE state = 'waiting'").fetchone()
        return None if row[0] is None else float(row[0])

    def problems(self, most: int = 100) -> list[Problem]:
        """Return the studies that something went wrong with: those set aside first."""
        with self._turn:
            rows = self._database.execute(
                """SELECT coalesce(nullif(uid, ''), id), state, attempts, reason, due FROM study
                   WHERE state = 'failed' OR (state = 'waiting' AND reason <> '') ORDER BY state, noticed_at LIMIT ?""",
                (most,),
            ).fetchall()
        return [Problem(*row) for row in rows]
