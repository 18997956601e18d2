"""What searches look in: the rows of all studies, series and instances, in SQLite."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicomweb.dataset import write_json

from static_dicomweb.rows import Row

_SCHEMA = """
CREATE TABLE IF NOT EXISTS found (
    level TEXT NOT NULL,
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    uid TEXT NOT NULL,
    place INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (level, study, series, uid)
) WITHOUT ROWID;
"""
_BUSY_SECONDS = 60


class Index:
    """The index of a tree. Several processes may use it."""

    def __init__(self, root: Path) -> None:
        """Make it where there is none."""
        self._connection = sqlite3.connect(root / "index.sqlite", timeout=_BUSY_SECONDS, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Use it no longer."""
        self._connection.close()

    def replace(self, study: str, rows: Sequence[Row]) -> None:
        """Have a study's rows be these, in place of the former ones; raise OSError where the disk doesn't take them."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM found WHERE level IN ('STUDY', 'SERIES', 'IMAGE') AND study = ?", (study,))
            self._connection.executemany(
                "INSERT INTO found VALUES (?, ?, ?, ?, ?, ?)",
                ((row.level, row.study, row.series, row.uid, place, write_json(row.attributes)) for place, row in enumerate(rows)),
            )
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(errno.EIO, f"the index takes nothing: {error}") from None
            raise

    def rows(self, level: str, study: str = "", series: str = "") -> Iterator[Row]:
        """Yield the rows of a level, of one study or series where they are given."""
        asked = "SELECT level, study, series, uid, attributes FROM found WHERE level = ?"
        given = [level]
        for name, value in (("study", study), ("series", series)):
            if value:
                asked += f" AND {name} = ?"
                given.append(value)
        for found, its_study, its_series, uid, attributes in self._connection.execute(f"{asked} ORDER BY study, place", given):
            yield Row(found, its_study, its_series, uid, json.loads(attributes))
