"""Parts of the test, run side by side: each one's end is told, and what is cut off leaves nothing that runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "molecule/run_parts.py"
TARGETS = """
part-good:
	@echo '    msg: 12 checks, all ok'; echo 'All checks passed!'; echo '=== 3 passed, 2 skipped in 0.1s ==='
part-bad:
	@echo 'E   quoted: 12 checks, all ok'; echo 'test_x[FAILED] PASSED'; echo 'tests/test_it.py::test_that FAILED [ 50%]'
	@echo 'TASK [Do it] ****'; echo 'fatal: [host]: FAILED! => no'; echo '=== 1 failed, 4 passed in 1.0s ==='; exit 3
part-failing-quietly:
	@echo '=== 2 failed, 1 xfailed in 1.0s ==='; printf '\\377 no end'; seq -s: 100000
part-slow:
	@echo $$$$ >{pids}; exec setsid --wait sleep 600
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    """The program, with logs of its own: these tests may be a part themselves."""
    return [sys.executable, str(PROGRAM), f"--logs={tmp_path}/logs"]


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, str]:
    """Further targets, for the project's own Makefile to have."""
    path = tmp_path / "parts.mk"
    path.write_text(TARGETS.replace("{pids}", str(tmp_path / "pids")))
    return {**os.environ, "MAKEFILES": str(path)}


def test_each_end_is_told_and_the_last_lines_sum_up(program: list[str], targets: dict[str, str]) -> None:
    command = [*program, "--jobs", "2", "part-good", "part-bad"]
    done = subprocess.run(command, env=targets, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line for line in lines if line.startswith("failing ")] == [
        "failing part-bad: tests/test_it.py::test_that FAILED [ 50%]",
        "failing part-bad: TASK [Do it]: fatal: [host]: FAILED! => no",
    ]
    assert any(line.startswith("ok      part-good: ") and "3 tests, 13 other checks" in line for line in lines)
    assert any(line.startswith("FAILED  part-bad after ") for line in lines)
    assert lines[-2].endswith("failed or not run: part-bad")
    assert lines[-1] == "7 passed, 1 failed, 2 skipped"
    assert "tests/test_it.py::test_that FAILED" in Path(lines[-3].split()[-1]).read_text()


def test_an_interrupted_run_leaves_nothing_that_runs(program: list[str], targets: dict[str, str], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = [*program, "--jobs", "1", "part-slow", "part-good"]
    running = subprocess.Popen(command, env=targets, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the part never began"
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGINT
    assert output.splitlines()[-2].endswith("failed or not run: part-slow, part-good")
    wait_for_end_of(int(pids.read_text()))


def test_a_part_that_never_ends_is_ended_at_the_limit(program: list[str], targets: dict[str, str], tmp_path: Path) -> None:
    command = [*program, "--limit", "10", "part-slow", "part-good"]
    done = subprocess.run(command, env=targets, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert any("part-slow after 1" in line and "ended at the limit of 10 s" in line for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-2].endswith("failed or not run: part-slow")
    wait_for_end_of(int((tmp_path / "pids").read_text()))


def wait_for_end_of(process: int) -> None:
    """Wait until a process that was killed is gone, or its parent, by then process 1, has yet to wait for it."""
    path, deadline = Path(f"/proc/{process}"), time.monotonic() + 60
    while path.exists() and "Z" not in (path / "stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline, "the part runs on"
        time.sleep(0.1)


def test_a_part_with_a_failed_test_has_failed_and_any_output_is_taken(program: list[str], targets: dict[str, str]) -> None:
    command = [*program, "part-failing-quietly", "part-absent"]
    environment = {**targets, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-2].endswith("failed or not run: part-failing-quietly, part-absent")
    assert done.stdout.splitlines()[-1] == "0 passed, 2 failed, 1 skipped"


def test_it_goes_on_when_nobody_reads_what_it_says(program: list[str], targets: dict[str, str], tmp_path: Path) -> None:
    command = f"{shlex.join(program)} part-slow part-good | head -n 1"
    running = subprocess.Popen(["bash", "-c", command], env=targets, stdout=subprocess.PIPE, text=True)
    pids = tmp_path / "pids"
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the part never began"
        time.sleep(0.1)
    found = subprocess.run(
        ["pgrep", "--parent", str(running.pid), "--full", "run_parts"], capture_output=True, text=True, check=True
    )
    os.kill(int(found.stdout), signal.SIGHUP)
    slow = Path("/proc", pids.read_text().strip())
    while slow.exists() and "Z" not in (slow / "stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline, "the part runs on"
        time.sleep(0.1)
    running.communicate(timeout=60)


def test_one_run_of_a_checkout_at_a_time(program: list[str], targets: dict[str, str], tmp_path: Path) -> None:
    running = subprocess.Popen([*program, "part-slow"], env=targets, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < deadline, "the part never began"
        time.sleep(0.1)
    other = subprocess.run([*program, "part-good"], env=targets, capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "wait for its end" in other.stderr
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
