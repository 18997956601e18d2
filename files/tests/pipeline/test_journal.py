"""What a service knows of studies, whatever the clock says."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from pipeline.journal import Held, Journal

FORMER = """
CREATE TABLE study (
    id TEXT PRIMARY KEY, uid TEXT NOT NULL DEFAULT '', state TEXT NOT NULL, notices INTEGER NOT NULL, noticed_at REAL NOT NULL,
    due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', last_update TEXT NOT NULL DEFAULT '',
    instances INTEGER NOT NULL DEFAULT 0, done_at REAL
) WITHOUT ROWID;
CREATE TABLE held (
    study TEXT NOT NULL, holder TEXT NOT NULL, instance TEXT NOT NULL, file TEXT NOT NULL, PRIMARY KEY (study, holder, instance)
) WITHOUT ROWID;
INSERT INTO study VALUES ('a-study', '1.2.3', 'done', 1, 1, 1, 0, '', 'now', 1, 1);
INSERT INTO held VALUES ('a-study', 'static', 'an-instance', 'a-file');
"""


def test_a_clock_that_is_set_back_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    right = time.time
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: right() + 10_000)
        journal.notice(["early"])
    journal.notice(["now", "soon"])
    (soon,) = [due for due in journal.due(10, []) if due.id == "soon"]
    journal.postpone(soon, right() + 60, "", 1)
    assert [due.id for due in journal.due(10, [])] == ["now"]
    assert journal.bring_forward(420) == 1
    assert {due.id for due in journal.due(10, [])} == {"now", "early"}
    assert journal.bring_forward(420) == 0


def test_one_of_before_is_read_and_what_it_lacks_is_asked_for(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as former:
        former.executescript(FORMER)
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.held("a-study", "static") == {"an-instance": "a-file"}
    assert not journal.due(10, [])
    journal.prepare_for_deletions()
    [due] = journal.due(10, [])
    journal.hold("a-study", "static", [Held("an-instance", "a-file", "1.2.3.4", "1.2.3.5")])
    assert journal.finish(due)
    assert journal.holders("a-study") == {"static": [Held("an-instance", "a-file", "1.2.3.4", "1.2.3.5")]}
    journal.prepare_for_deletions()
    assert not journal.due(10, [])
    journal.notice_instance("an-instance")
    assert [each.id for each in journal.due(10, [])] == ["a-study"]


def test_what_is_noticed_while_it_is_forgotten_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.notice(["again", "gone"])
    first = journal.due(10, [])
    journal.notice(["again"])
    for each in first:
        journal.forget(each.id, each.notices)
    assert [each.id for each in journal.due(10, [])] == ["again"]
