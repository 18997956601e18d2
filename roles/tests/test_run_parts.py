"""Parts of the test, run side by side: each one's end is told, and what is cut off leaves nothing that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "molecule/run_parts.py"
TARGETS = """
part-good:
	@echo 'playbook said: 12 checks, all ok'; echo '=== 3 passed, 2 skipped in 0.1s ==='
part-bad:
	@echo 'tests/test_it.py::test_that FAILED [ 50%]'; echo '=== 1 failed, 4 passed in 1.0s ==='; exit 3
part-slow:
	@echo $$$$ >{pids}; exec setsid --wait sleep 600
"""


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, str]:
    """Further targets, for the project's own Makefile to have."""
    path = tmp_path / "parts.mk"
    path.write_text(TARGETS.replace("{pids}", str(tmp_path / "pids")))
    return {**os.environ, "MAKEFILES": str(path)}


def test_each_end_is_told_and_the_last_lines_sum_up(targets: dict[str, str]) -> None:
    command = [sys.executable, str(PROGRAM), "--jobs", "2", "part-good", "part-bad"]
    done = subprocess.run(command, env=targets, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert "failing part-bad: tests/test_it.py::test_that FAILED [ 50%]" in lines
    assert any(line.startswith("ok      part-good: ") and "3 tests, 12 other checks" in line for line in lines)
    assert any(line.startswith("FAILED  part-bad after ") for line in lines)
    assert lines[-2].endswith("failed or not run: part-bad")
    assert lines[-1] == "7 passed, 1 failed, 2 skipped"
    assert "tests/test_it.py::test_that FAILED" in Path(lines[-3].split()[-1]).read_text()


def test_an_interrupted_run_leaves_nothing_that_runs(targets: dict[str, str], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, str(PROGRAM), "--jobs", "1", "part-slow", "part-good"]
    running = subprocess.Popen(command, env=targets, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the part never began"
        time.sleep(0.1)
    slow = Path("/proc", pids.read_text().strip())
    assert slow.exists()
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGINT
    assert output.splitlines()[-2].endswith("failed or not run: part-slow, part-good")
    # A process that was killed is there until its parent, by then process 1, has waited for it.
    while slow.exists() and "Z" not in (slow / "stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline, "the part runs on"
        time.sleep(0.1)
