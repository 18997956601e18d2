"""Runs parts of the test side by side, says how each one ends as soon as it has, and ends with a table of all.

Usage: run_parts.py [--jobs N] TARGET ...: targets of the Makefile, in the order in which they begin. Each one's output is in a file
of its own, every line with the minutes and seconds since the part began.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

PROJECT = Path(__file__).parents[1]
LOGS = PROJECT / ".cache/test"
SCENARIO = "molecule-"

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# How pytest ends; what playbooks/verify.yml and the linters say that they looked at.
_TESTS = re.compile(r"=+ .*\b(?:passed|failed|errors?)\b.* in [\d.]+s.* =+")
_COUNT = re.compile(r"(\d+) (passed|failed|error|skipped)")
_LOOKED_AT = re.compile(r"(\d+) checks, all ok|in (\d+) source files|(\d+) files already formatted|warning\(s\) in (\d+) files")
# A test that failed, while others of its part go on.
_FAILED_TEST = re.compile(r"\S+::.*(?:FAILED|ERROR)|(?:FAILED|ERROR) \S+::\S+")
_LAST_LINES = 60


@dataclass
class Part:
    """A target of the Makefile, and what came of it."""

    target: str
    log: Path
    process: subprocess.Popen[str] | None = None
    seconds: float = 0.0
    ended: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    other_checks: int = 0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    @property
    def state(self) -> str:
        return "not run" if self.ended is None else "ok" if self.ended == 0 else "FAILED"

    def count(self, kind: str) -> int:
        return self.counts.get(kind, 0)


_printing = threading.Lock()


def say(text: str) -> None:
    """Print at once, and whole beside what other parts say."""
    with _printing:
        print(text, flush=True)


def run(part: Part) -> None:
    """Run a part to its end, and say how it ended."""
    say(f"begun   {part.target}: {part.log.relative_to(PROJECT)}")
    begun = time.monotonic()
    part.process = subprocess.Popen(
        ["make", "--no-print-directory", part.target],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert part.process.stdout
    with part.log.open("w") as log:
        for line in part.process.stdout:
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            log.write(f"{minutes:02}:{seconds:02} {line}")
            log.flush()
            note(part, _COLOR.sub("", line).rstrip())
    part.ended = part.process.wait()
    part.seconds = time.monotonic() - begun
    if part.ended:
        say("\n".join([f"FAILED  {part.target} after {part.seconds:.0f} s, the last of {part.log}:", *part.last]))
    else:
        say(f"ok      {part.target}: {part.seconds:.0f} s, {part.count('passed')} tests, {part.other_checks} other checks")


def note(part: Part, line: str) -> None:
    """Count what a line of the output tells, and say at once which test failed."""
    part.last.append(line)
    if _TESTS.search(line):
        for number, kind in _COUNT.findall(line):
            kind = "failed" if kind == "error" else kind
            part.counts[kind] = part.count(kind) + int(number)
    elif found := _LOOKED_AT.search(line):
        part.other_checks += int(next(number for number in found.groups() if number))
    elif _FAILED_TEST.search(line):
        say(f"failing {part.target}: {line.strip()}")


def table(parts: list[Part], seconds: float) -> str:
    """Return the parts with their times and counts, and a last line that sums the tests."""
    rows = [["part", "result", "seconds", "tests", "skipped", "failed", "other checks", "log"]]
    for part in parts:
        counts = [str(part.count(kind)) for kind in ("passed", "skipped", "failed")]
        rows.append([part.target, part.state, f"{part.seconds:.0f}", *counts, str(part.other_checks), str(part.log)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failed = [part.target for part in parts if part.state != "ok"]
    lines.append(f"{seconds:.0f} s in all; {'failed or not run: ' + ', '.join(failed) if failed else 'all parts ok'}")
    passed, broken, skipped = (sum(part.count(kind) for part in parts) for kind in ("passed", "failed", "skipped"))
    return "\n".join([*lines, f"{passed} passed, {broken} failed, {skipped} skipped"])


def descendants(process: int) -> list[int]:
    """Return the processes below one, children first. Ansible's workers have sessions of their own: no group has them all."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, parent = int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(child)
    found, queue = [], deque(children.get(process, []))
    while queue:
        found.append(queue.popleft())
        queue.extend(children.get(found[-1], []))
    return found


def stop(parts: list[Part]) -> None:
    """End the parts that run, and remove the hosts of their scenarios; destroy.yml says what it removes."""
    running = [part for part in parts if part.process and part.process.poll() is None]
    for part in running:
        assert part.process
        for process in [part.process.pid, *descendants(part.process.pid)]:
            # One that has ended meanwhile is what is wanted.
            subprocess.run(["kill", "-KILL", str(process)], stderr=subprocess.DEVNULL, check=False)
    for part in running:
        if part.target.startswith(SCENARIO):
            say(f"removing the hosts of {part.target}")
            scenario = part.target.removeprefix(SCENARIO)
            subprocess.run(["molecule", "destroy", "--scenario-name", scenario], cwd=PROJECT, check=False)


def main() -> None:
    """Run the parts that the command line names; exit with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3, help="how many run at once")
    parser.add_argument("targets", nargs="+")
    given = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    parts = [Part(target, LOGS / f"{target}.log") for target in given.targets]
    begun = time.monotonic()

    def interrupted(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pool.shutdown(wait=False, cancel_futures=True)
        stop(parts)
        say(table(parts, time.monotonic() - begun))
        sys.exit(128 + number)

    pool = ThreadPoolExecutor(given.jobs)
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    for future in [pool.submit(run, part) for part in parts]:
        future.result()
    say("\n" + table(parts, time.monotonic() - begun))
    sys.exit(any(part.ended for part in parts))


if __name__ == "__main__":
    main()
