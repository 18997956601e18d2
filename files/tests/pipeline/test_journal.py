"""What a service knows of studies, whatever the clock says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pipeline.journal import Journal


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
