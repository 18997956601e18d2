"""Ansible action: gather the packages of Python services on the control node, for hosts of one kind."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import tomllib
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from packaging.requirements import Requirement

DOCUMENTATION = r"""
module: python_packages
short_description: Gather the packages of Python services on the control node
author: DICOMweb site maintainers
description:
  - A host then needs no package index, no pip and no compiler. What is gathered already is not gathered again, since an archive's
    name has the digest of all that went into it.
  - Nothing is done on the host; in check mode the same is done.
options:
  python:
    description: The hosts' Python, such as C(3.13).
    type: str
    required: true
  machine:
    description: The hosts' processor, such as C(x86_64).
    type: str
    required: true
  project:
    description: Directory of a project of ours. Each archive has its wheel, unless it is made from a requirement.
    type: path
    default: ""
  environments:
    description: The virtual environments whose packages are gathered.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the virtual environment., type: str, required: true}
      lock: {description: Lock file that the project is installed with., type: path, default: ""}
      requirement: {description: What pip installs in place of the project., type: str, default: ""}
  cache:
    description: Directory that archives are kept in.
    type: path
    default: ""
  download:
    description: Directory that what C(locks) name is downloaded to; no archive is made then.
    type: path
    default: ""
  locks:
    description: The lock files whose packages are downloaded.
    type: list
    elements: path
    default: []
  wheelhouse:
    description: Directory that packages are taken from in place of an index.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Gather the packages of a service for hosts with Python 3.13
  python_packages:
    python: "3.13"
    machine: x86_64
    project: /srv/dicomweb-site/files
    environments:
      - {name: upsrs, lock: /srv/dicomweb-site/files/requirements/upsrs.txt}
    cache: /var/cache/dicomweb-site
"""

RETURN = r"""
archives:
  description: Path of the archive of each environment, by the environment's name; of those with the same content there is one.
  type: dict
  returned: always
"""

# glibc 2.34 and older: what every supported release can run.
_NEWEST_GLIBC, _OLDEST_GLIBC = 34, 17


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


@dataclass(frozen=True)
class Gatherer:
    """Gathers packages for hosts with one Python and one processor, of an index or of a directory in its place."""

    python: str
    machine: str
    wheelhouse: str = ""

    @property
    def options(self) -> list[str]:
        """Return pip's options for such a host."""
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)]
        named = [f"--platform={platform}" for platform in [*platforms, f"manylinux2014_{self.machine}"]]
        return ["--only-binary=:all:", f"--python-version={self.python}", "--implementation=cp", *named]

    def pip(self, *arguments: str) -> None:
        """Run pip; raise AnsibleActionFail with what it said where it fails."""
        # pip reads these as its options; what they don't name it would ask an index for.
        instead_of_index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheelhouse} if self.wheelhouse else {}
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | instead_of_index)
        if done.returncode:
            raise AnsibleActionFail(f"pip {arguments[0]} failed:\n{done.stderr[-4000:]}")

    def download(self, directory: Path, lock: str) -> None:
        """Download exactly what the lines of a lock file name, by their hashes."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(lock)
            requirements.flush()
            named = [f"--dest={directory}", f"--requirement={requirements.name}"]
            self.pip("download", "--no-deps", "--require-hashes", *named, *self.options)

    def locked(self, cache: Path, project: Path, lock: Path) -> Path:
        """Return the archive of a project of ours and of what its lock file names."""
        lines = locked_for(lock.read_text(), self.python, self.machine)
        target = self._place(cache, lock.stem, lines + source_digest(project))
        if not target.exists():
            with tempfile.TemporaryDirectory() as scratch:
                self.download(Path(scratch), lines)
                self.pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={scratch}", str(project.resolve()))
                self._archive(Path(scratch), target)
        return target

    def required(self, cache: Path, requirement: str) -> Path:
        """Return the archive of somebody else's project, and of the newest that it takes of what it needs.

        It is fetched at each call: only so is it known whether a branch, a directory or the newest version has changed.
        """
        with tempfile.TemporaryDirectory() as scratch:
            if "/" in requirement:
                self.pip("wheel", "--no-deps", f"--wheel-dir={scratch}", requirement)
            else:
                self.pip("download", "--no-deps", f"--dest={scratch}", requirement, *self.options)
            (wheel,) = Path(scratch).glob("*.whl")
            target = self._place(cache, wheel.name.split("-")[0], hashlib.sha256(wheel.read_bytes()).hexdigest())
            if not target.exists():
                extras = re.search(r"\[[^]]*\]$", requirement)
                self.pip("download", f"--dest={scratch}", f"{wheel}{extras.group() if extras else ''}", *self.options)
                self._archive(Path(scratch), target)
        return target

    def _place(self, cache: Path, name: str, content: str) -> Path:
        digest = hashlib.sha256("\0".join([content, *self.options]).encode()).hexdigest()[:16]
        return cache / f"{name}-{digest}.tgz"

    def _archive(self, directory: Path, target: Path) -> None:
        """Install a directory's wheels into one archive, whole or not at all: `site-packages`, and `bin` for its scripts."""
        tree = directory / "site-packages"
        wheels = map(str, sorted(directory.glob("*.whl")))
        # The wheels were chosen for the host's Python; pip would ask this machine's.
        chosen = ["--no-index", "--no-deps", "--no-compile", "--ignore-requires-python"]
        self.pip("install", *chosen, f"--target={tree}", *self.options, *wheels)
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


class ActionModule(ActionBase):
    """Gather where nothing is there yet, and say where it is."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the archives' paths."""
        result = super().run(tmp, task_vars)
        given = self._task.args
        gatherer = Gatherer(given["python"], given["machine"], given.get("wheelhouse") or "")
        if given.get("download"):
            if not given["locks"]:
                raise AnsibleActionFail("No lock file is named, so there is nothing to download.")
            for path in given["locks"]:
                lock = locked_for(Path(path).read_text(), gatherer.python, gatherer.machine)
                gatherer.download(Path(given["download"]), lock)
            return {**result, "changed": True, "archives": {}}
        cache, project = Path(given["cache"]), Path(given["project"])
        cache.mkdir(parents=True, exist_ok=True)
        # One host's task gathers, those of its like find what it gathered.
        with (cache / "lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            archives = {one["name"]: str(self._archive(gatherer, cache, project, one)) for one in given["environments"]}
        return {**result, "changed": False, "archives": archives}

    def _archive(self, gatherer: Gatherer, cache: Path, project: Path, environment: Mapping[str, str]) -> Path:
        if environment.get("requirement"):
            return gatherer.required(cache, environment["requirement"])
        return gatherer.locked(cache, project, Path(environment["lock"]))
