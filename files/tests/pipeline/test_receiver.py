"""What the monitor waits for."""

from __future__ import annotations

from pathlib import Path

from pipeline_monitor.receiver import Receiver
from pipeline_monitor.tree import Tree


def test_two_who_wait_for_the_same_study_are_two(tmp_path: Path) -> None:
    """One UID of two patients, extracted at the same time: who has all of his leaves, the other goes on waiting."""
    receiver = Receiver(Tree(tmp_path))
    one, two = receiver.expect("1.2.3"), receiver.expect("1.2.3")
    receiver.finish(two)
    file = tmp_path / "file"
    file.touch()
    one.files["TWO", "1.2.3.4", "1.2.3.4.5"] = file
    receiver.finish(one)
