"""What the parts of `make bench` share. Whose hosts are meant is in MOLECULE_SCENARIO_DIRECTORY before this is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).parents[2]
BENCH = Path(__file__).parent
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / "files/src")]

from datasets import Instance, ct_study  # noqa: E402 - the path is set above
from hosts import SSH, play  # noqa: E402


def played(playbook: str, *arguments: str) -> float:
    """Play, and return the seconds; end with what was said where it fails."""
    begun = time.monotonic()
    ended = play(playbook, *arguments, timeout=900)
    if ended.returncode:
        raise SystemExit(f"{playbook} failed:\n{ended.stdout[-3000:]}{ended.stderr[-2000:]}")
    return time.monotonic() - begun


def on(address: str, command: str) -> str:
    """Return what a command on a host prints."""
    done = subprocess.run(["ssh", *SSH, f"root@{address}", command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def brought(address: str, *programs: str) -> None:
    """Bring programs of this directory onto a host, and DCMTK."""
    on(address, "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends dcmtk")
    paths = [str(BENCH / program) for program in programs]
    subprocess.run(["scp", *SSH, *paths, f"root@{address}:/root/"], check=True, capture_output=True)


def store(address: str, called: str, directory: Path) -> None:
    """Send a directory by C-STORE."""
    command = [sys.executable, "-m", "dimse.send", "--called", called, address, "4242", str(directory)]
    subprocess.run(command, env={"PYTHONPATH": str(PROJECT / "files/src")}, capture_output=True, check=True)


def sent(address: str, called: str, count: int) -> str:
    """Send a new study and return its UID."""
    with tempfile.TemporaryDirectory() as name:
        instances = ct_study(count, Path(name))
        store(address, called, Path(name))
        return str(instances[0].dataset.StudyInstanceUID)


def written_body(instances: list[Instance], path: Path) -> Path:
    """Write instances as the body of a STOW-RS, whose boundary is `b`."""
    with path.open("wb") as stream:
        for instance in instances:
            stream.write(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + instance.path.read_bytes() + b"\r\n")
        stream.write(b"--b--\r\n")
    return path


def peak_kb(address: str, unit: str) -> int:
    """Return the most memory that a service had since its start, in kB."""
    return int(on(address, f"grep VmHWM /proc/$(systemctl show --property=MainPID --value {unit})/status").split()[1])


def line(what: str, figure: float, aim: str, measured: str) -> None:
    """Print a line of the table."""
    print(f"| {what} | {figure:.2f} | {aim} | {measured} |", flush=True)


def on_bare_hosts(measure: Callable[[], None]) -> None:
    """Boot the scenario's hosts, measure, and remove them."""
    played("molecule/shared/destroy.yml")
    played("molecule/shared/create.yml")
    try:
        measure()
    finally:
        if not os.environ.get("BENCH_KEEP"):
            played("molecule/shared/destroy.yml")
