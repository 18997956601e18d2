"""Gathers the packages of a Python service on the control node, for hosts of one kind, and prints the path of their archive.

A host then needs no package index, no pip and no compiler. What is gathered already is not gathered again: the archive's name has
the digest of all that went into it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import tomllib
from packaging.requirements import Requirement

# glibc 2.34 and older: what every supported release can run.
_NEWEST_GLIBC, _OLDEST_GLIBC = 34, 17


def run_pip(*arguments: str) -> None:
    """Run pip; end with what it said where it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pip {arguments[0]} failed:\n{done.stderr[-4000:]}")


def locked_for(lock: str, python: str, machine: str) -> str:
    """Return the lines of a lock file that hold on a host with this Python and processor. pip itself would ask its own machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for entry in re.sub(r"\\\n", " ", lock).splitlines():
        line = entry.strip()
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+(?=--hash=)", line)
        parsed = Requirement(requirement)
        if parsed.marker is None or parsed.marker.evaluate(environment):
            kept.append(" ".join([requirement.split(";")[0].strip(), *hashes]))
    return "\n".join(kept) + "\n"


def source_digest(project: Path) -> str:
    """Return the digest of those files of a project that go into its wheel."""
    digest = hashlib.sha256()
    settings = project / "pyproject.toml"
    packages = tomllib.loads(settings.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for path in sorted([settings, *(path for package in packages for path in (project / package).rglob("*"))]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(project)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def platform_options(python: str, machine: str) -> list[str]:
    """Return pip's options for a host with this Python and processor."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)]
    named = [f"--platform={platform}" for platform in [*platforms, f"manylinux2014_{machine}"]]
    return ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *named]


def download_locked(directory: Path, lock: str, options: list[str]) -> None:
    """Gather exactly what a lock file names, by its hashes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(lock)
        requirements.flush()
        run_pip("download", "--no-deps", "--require-hashes", f"--dest={directory}", f"--requirement={requirements.name}", *options)


def gather_locked(directory: Path, project: Path, lock: str, options: list[str]) -> None:
    """Gather a project of ours and what its lock file names."""
    download_locked(directory, lock, options)
    run_pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", str(project))


def get_project(directory: Path, requirement: str, options: list[str]) -> Path:
    """Return the wheel of somebody else's project: built from a directory or a repository, or of a package index as it is there."""
    if "/" in requirement:
        run_pip("wheel", "--no-deps", f"--wheel-dir={directory}", requirement)
    else:
        run_pip("download", "--no-deps", f"--dest={directory}", requirement, *options)
    (wheel,) = directory.glob("*.whl")
    return wheel


def gather_required(directory: Path, wheel: Path, requirement: str, options: list[str]) -> None:
    """Gather the newest that somebody else's project takes of what it needs."""
    extras = re.search(r"\[[^]]*\]$", requirement)
    run_pip("download", f"--dest={directory}", f"{wheel}{extras.group() if extras else ''}", *options)


def archive(directory: Path, target: Path, options: list[str]) -> None:
    """Install a directory's wheels into one archive, whole or not at all: `site-packages`, and `bin` for its scripts."""
    tree = directory / "site-packages"
    wheels = map(str, sorted(directory.glob("*.whl")))
    # The wheels were chosen for the host's Python; pip would ask this machine's.
    chosen = ["--no-index", "--no-deps", "--no-compile", "--ignore-requires-python"]
    run_pip("install", *chosen, f"--target={tree}", *options, *wheels)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as handle, _compressed(handle) as tar:
        if (tree / "bin").exists():
            tar.add((tree / "bin").rename(directory / "bin"), "bin", filter=_as_root)
        tar.add(tree, tree.name, filter=_as_root)
    os.replace(handle.name, target)


def _compressed(handle: IO[bytes]) -> tarfile.TarFile:
    # The fastest level takes two thirds away; the others take longer than they save on the way.
    return tarfile.open(fileobj=handle, mode="w:gz", compresslevel=1)


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def main() -> None:
    """Gather, and print where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="directory of the archives")
    parser.add_argument("--name", required=True, help="the service")
    parser.add_argument("--python", required=True, help="the host's Python, such as 3.13")
    parser.add_argument("--machine", required=True, help="the host's processor, such as x86_64")
    parser.add_argument("--project", type=Path, help="a project of ours")
    parser.add_argument("--lock", type=Path, help="its lock file")
    parser.add_argument("--requirement", help="a project of somebody else's, as pip names it")
    parser.add_argument("--wheelhouse", help="directory that the packages are taken from, in place of an index")
    parser.add_argument("--download", type=Path, help="directory that the packages of the lock file are only downloaded to")
    given = parser.parse_args()

    options = platform_options(given.python, given.machine)
    if given.download:
        download_locked(given.download, locked_for(given.lock.read_text(), given.python, given.machine), options)
        return
    if given.wheelhouse:
        # pip reads these as its options; what they don't name it would ask an index for.
        os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=given.wheelhouse)
    given.cache.mkdir(parents=True, exist_ok=True)
    with (given.cache / "lock").open("w") as turn, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(turn, fcntl.LOCK_EX)
        directory = Path(scratch)
        lock = ""
        if given.requirement:
            # At each run: only so is it known whether a branch, a directory or the newest version has changed.
            wheel = get_project(directory, given.requirement, options)
            content = hashlib.sha256(wheel.read_bytes()).hexdigest()
        else:
            lock = locked_for(given.lock.read_text(), given.python, given.machine)
            content = lock + source_digest(given.project)
        digest = hashlib.sha256("\0".join([content, *options]).encode()).hexdigest()[:16]
        target = given.cache / f"{given.name}-{digest}.tgz"
        if not target.exists():
            if given.requirement:
                gather_required(directory, wheel, given.requirement, options)
            else:
                gather_locked(directory, given.project.resolve(), lock, options)
            archive(directory, target, options)
    print(target)


if __name__ == "__main__":
    main()
