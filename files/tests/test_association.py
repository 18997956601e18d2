"""An association's own thread stands still while another one sends and receives."""

from __future__ import annotations

import threading
import time

from dimse.association import _Checkpoint


class Passing(threading.Thread):
    """Passes a checkpoint again and again, as the thread of an association does."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.checkpoint = _Checkpoint(self)
        self.passed = 0
        self.is_done = False

    def run(self) -> None:
        while not self.is_done:
            self.checkpoint.wait()
            time.sleep(0)
            self.passed += 1


def test_who_has_stopped_it_is_alone() -> None:
    thread = Passing()
    thread.start()
    for _ in range(300):
        thread.checkpoint.clear()
        passed = thread.passed
        time.sleep(0.001)
        assert thread.passed == passed
        thread.checkpoint.set()
    thread.is_done = True
    thread.join(30)
    assert not thread.is_alive()
    # Nobody is waited for who has ended.
    thread.checkpoint.clear()
