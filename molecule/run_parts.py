"""Runs parts of the test side by side, says how each one ends as soon as it has, and ends with a table of all.

Usage: run_parts.py [--jobs N] [--limit SECONDS] [--logs DIRECTORY] TARGET ...: targets of the Makefile, in the order in which they
begin. Each one's output is in a file of its own, every line with the minutes and seconds since the part began. One that takes
longer than the limit is ended, and its hosts are removed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

PROJECT = Path(__file__).parents[1]
SCENARIO = "molecule-"

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# How pytest ends, and how it names a test that failed while others go on, with and without several processes.
_TESTS = re.compile(r"=+ .*\b(?:passed|failed|errors?)\b.* in [\d.]+s.* =+")
_COUNT = re.compile(r"(\d+) (passed|failed|error|skipped|xfailed|xpassed)")
_FAILED_TEST = re.compile(r"\[gw\d+\] \[ *\d+%\] (?:FAILED|ERROR) .+|\S+::.+ (?:FAILED|ERROR) +\[ *\d+%\]")
# What playbooks/verify.yml has checked, and a linter that is content.
_VERIFIED = re.compile(r"\W*(?:msg: )?\W*(\d+) checks, all ok\W*")
_CONTENT = re.compile(r"All checks passed!|\d+ files? already formatted|Success: no issues found in .*|Passed: 0 failure\(s\).*")
_TASK = re.compile(r"\W*(TASK \[.*)")
_FAILED_TASK = re.compile(r"\W*(?:\[ERROR\]: Task failed|fatal: \[).*")
# Molecule goes on to remove the hosts: what it was is above this line.
_CAUSE_ENDS = "An error occurred during the test sequence action"
_LAST_LINES = 60
_LONGEST_LINE = 1000


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
    task: str = ""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    cause: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return "not run" if self.ended is None else "FAILED" if self.ended or self.count("failed") else "ok"

    def count(self, kind: str) -> int:
        return self.counts.get(kind, 0)


class Parts:
    """Parts that are run, at most so many at once, until all have ended or the run is stopped."""

    def __init__(self, targets: list[str], logs: Path, limit: int) -> None:
        self.all = [Part(target, logs / f"{target}.log") for target in targets]
        self._limit = limit
        self._stopping = False
        self._starting = threading.Lock()
        self._printing = threading.RLock()
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        """Print at once, and whole beside what other parts say; whoever reads it may have gone."""
        with self._printing:
            try:
                print(text, flush=True)
            except OSError:
                sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123 - for the rest of the process

    def run(self, part: Part) -> None:
        """Run a part to its end, and say how it ended."""
        begun = time.monotonic()
        try:
            with part.log.open("w", encoding="utf-8") as log:
                with self._starting:
                    if self._stopping:
                        return
                    self.say(f"begun   {part.target}: {part.log}")
                    part.process = make(part.target)
                reader = threading.Thread(target=self._read, args=(part, log, begun), daemon=True)
                reader.start()
                late = self._wait(part)
                # What a part left in the background may keep its output open.
                reader.join(10)
        except OSError as error:
            part.ended, late = 1, False
            part.last.append(str(error))
        part.seconds = time.monotonic() - begun
        if self._stopping:
            return
        if part.state == "ok":
            self.say(f"ok      {part.target}: {part.seconds:.0f} s, {part.count('passed')} tests, {part.other_checks} other checks")
        else:
            how = f"killed by signal {-part.ended}" if part.ended and part.ended < 0 else "the last before its end"
            if late:
                how = f"ended at the limit of {self._limit} s, with what is below as its last words"
            lines = part.cause or part.last
            self.say("\n".join([f"FAILED  {part.target} after {part.seconds:.0f} s ({how}; all of it: {part.log})", *lines]))

    def _wait(self, part: Part) -> bool:
        """Wait for a part's end, and end it at the limit; return whether it came to that."""
        assert part.process
        try:
            part.ended = part.process.wait(self._limit)
        except subprocess.TimeoutExpired:
            kill(part)
            part.ended = part.process.wait()
            # A stop of all parts removes its hosts, too.
            if not self._stopping:
                self._remove_hosts(part)
            return True
        return False

    def _remove_hosts(self, part: Part) -> None:
        """Remove the hosts of a scenario that was ended; destroy.yml says what it removes."""
        if part.target.startswith(SCENARIO):
            self.say(f"removing the hosts of {part.target}")
            output, _ = make(f"destroy-{part.target.removeprefix(SCENARIO)}").communicate()
            self.say(output)

    def _read(self, part: Part, log: IO[str], begun: float) -> None:
        assert part.process and part.process.stdout
        for line in part.process.stdout:
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            # On a full disk, or after its end was told, the rest is read all the same: the part would wait for that for ever.
            with contextlib.suppress(OSError, ValueError):
                log.write(f"{minutes:02}:{seconds:02} {line}")
                log.flush()
            self._note(part, _COLOR.sub("", line[:_LONGEST_LINE]).rstrip())

    def _note(self, part: Part, line: str) -> None:
        """Count what a line of the output tells, and say at once what failed."""
        part.last.append(line)
        if _TESTS.fullmatch(line):
            for number, kind in _COUNT.findall(line):
                kind = {"error": "failed", "xfailed": "skipped", "xpassed": "passed"}.get(kind, kind)
                part.counts[kind] = part.count(kind) + int(number)
        elif found := _VERIFIED.fullmatch(line):
            part.other_checks += int(found[1])
        elif _CONTENT.fullmatch(line):
            part.other_checks += 1
        elif found := _TASK.fullmatch(line):
            part.task = found[1].rstrip("* ")
        elif _FAILED_TEST.fullmatch(line):
            self.say(f"failing {part.target}: {line}")
        elif _FAILED_TASK.fullmatch(line):
            self.say(f"failing {part.target}: {part.task}: {line.strip()}")
        elif _CAUSE_ENDS in line:
            part.cause = list(part.last)

    def table(self) -> str:
        """Return the parts with their times and counts, and a last line that sums the tests."""
        rows = [["part", "result", "seconds", "tests", "skipped", "failed", "other checks", "log"]]
        for part in self.all:
            counts = [str(part.count(kind)) for kind in ("passed", "skipped", "failed")]
            rows.append([part.target, part.state, f"{part.seconds:.0f}", *counts, str(part.other_checks), str(part.log)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        failed = [part.target for part in self.all if part.state != "ok"]
        seconds = time.monotonic() - self._begun
        lines.append(f"{seconds:.0f} s in all; {'failed or not run: ' + ', '.join(failed) if failed else 'all parts ok'}")
        passed, broken, skipped = (sum(part.count(kind) for part in self.all) for kind in ("passed", "failed", "skipped"))
        return "\n".join([*lines, f"{passed} passed, {broken} failed, {skipped} skipped"])

    def stop(self) -> None:
        """End the parts that run, and remove the hosts of their scenarios."""
        with self._starting:
            self._stopping = True
        running = [part for part in self.all if part.process and part.process.poll() is None]
        for part in running:
            kill(part)
        for part in running:
            self._remove_hosts(part)


def kill(part: Part) -> None:
    """End a part with all that it began."""
    assert part.process
    for process in [part.process.pid, *descendants(part.process.pid)]:
        # One that has ended meanwhile is what is wanted.
        subprocess.run(["kill", "-KILL", str(process)], stderr=subprocess.DEVNULL, check=False)


def make(target: str) -> subprocess.Popen[str]:
    """Begin to make a target; its output and its errors are one stream, of any bytes."""
    return subprocess.Popen(
        ["make", "--no-print-directory", target],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def descendants(process: int) -> list[int]:
    """Return the processes below one, parents first. Ansible's workers have sessions of their own: no group has them all."""
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


def number_to(most: int) -> Callable[[str], int]:
    """Return what reads a number from 1 on of the command line; it raises ValueError for another one."""

    def number(text: str) -> int:
        if not 0 < int(text) <= most:
            raise ValueError(text)
        return int(text)

    return number


def main() -> None:
    """Run the parts that the command line names; exit with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=number_to(99), default=3, help="how many run at once")
    parser.add_argument("--limit", type=number_to(86400), default=2400, help="how many seconds a part may take")
    parser.add_argument("--logs", type=Path, default=PROJECT / ".cache/test", help="directory of what the parts print")
    parser.add_argument("targets", nargs="+")
    given = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    given.logs.mkdir(parents=True, exist_ok=True)
    turn = (given.logs / "lock").open("w")
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another run writes its logs to {given.logs}: wait for its end.")
    parts = Parts(given.targets, given.logs, given.limit)
    pool = ThreadPoolExecutor(given.jobs)

    def interrupted(number: int, _: FrameType | None) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        pool.shutdown(wait=False, cancel_futures=True)
        parts.stop()
        parts.say(parts.table())
        sys.exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupted)
    for future in [pool.submit(parts.run, part) for part in parts.all]:
        future.result()
    parts.say("\n" + parts.table())
    sys.exit(any(part.state != "ok" for part in parts.all))


if __name__ == "__main__":
    main()
