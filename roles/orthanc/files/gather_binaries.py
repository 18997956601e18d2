"""Gathers Orthanc's binaries for the Linux Standard Base on the control node, from the project's server or a mirror of it.

`gather` has each with the sum that the site has pinned, and prints the path of an archive for the hosts; `mirror` copies them to a
directory, with their paths; `record` prints the sums of what the mirror has now, for the site to pin. What is gathered already is
not gathered again.

Standard input: {"mirror": "https://…", "binaries": [{"path": "orthanc/1.13.0/Orthanc", "directory": "bin", "sha256": "…"}]}
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TypedDict


class Binary(TypedDict):
    """One binary: its path below the mirror, the directory that it is given on a host, and its sum; empty where none is pinned."""

    path: str
    directory: str
    sha256: str


def sum_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(mirror: str, path: str, target: Path) -> None:
    """Fetch a binary, whole or not at all; end with the address and the reason where that fails."""
    address = f"{mirror.rstrip('/')}/{path}"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        with urllib.request.urlopen(address, timeout=60) as answer, part.open("wb") as stream:
            while block := answer.read(1 << 20):
                stream.write(block)
    except (urllib.error.URLError, OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        sys.exit(f"{address} can't be fetched: {error}. Correct orthanc_lsb_mirror or orthanc_lsb_versions.")
    os.replace(part, target)


def keep(mirror: str, binary: Binary, cache: Path) -> Path:
    """Return the binary's file in the cache; end where it has another sum than the site has pinned."""
    kept = cache / binary["sha256"] / Path(binary["path"]).name
    if not kept.exists():
        fetched = cache / "fetched" / kept.name
        fetch(mirror, binary["path"], fetched)
        found = sum_of(fetched)
        if found != binary["sha256"]:
            fetched.unlink()
            sys.exit(
                f"{mirror.rstrip('/')}/{binary['path']} has the SHA-256 {found}, but orthanc_lsb_sha256 has {binary['sha256']}. "
                "It was not kept. Find out why it differs before you pin another."
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fetched, kept)
    return kept


def keep_all(mirror: str, binaries: list[Binary], cache: Path) -> dict[str, Path]:
    """Return the files of the binaries by their paths; end where the site has pinned no sum of one, or another."""
    unpinned = [binary["path"] for binary in binaries if not binary["sha256"]]
    if unpinned:
        sys.exit(
            f"orthanc_lsb_sha256 has no sum of {', '.join(unpinned)}. The Orthanc project publishes none: record them once by "
            "playbooks/orthanc_sums.yml."
        )
    return {binary["path"]: keep(mirror, binary, cache) for binary in binaries}


def gather(mirror: str, binaries: list[Binary], cache: Path) -> Path:
    """Return the archive of the binaries."""
    files = keep_all(mirror, binaries, cache)
    digest = hashlib.sha256(json.dumps(binaries, sort_keys=True).encode()).hexdigest()[:16]
    target = cache / f"orthanc-{digest}.tar"
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as handle, tarfile.open(fileobj=handle, mode="w") as tar:
            for binary in binaries:
                path = files[binary["path"]]
                tar.add(path, f"{binary['directory']}/{path.name}", filter=_as_root)
        os.replace(handle.name, target)
    return target


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755
    return entry


def record(mirror: str, binaries: list[Binary], cache: Path) -> dict[str, str]:
    """Return the sums of what the mirror has, by path."""
    sums = {}
    for binary in binaries:
        fetched = cache / "fetched" / Path(binary["path"]).name
        fetch(mirror, binary["path"], fetched)
        sums[binary["path"]] = sum_of(fetched)
        fetched.unlink()
    return sums


def main() -> None:
    """Gather or record what standard input names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["gather", "mirror", "record"])
    parser.add_argument("--cache", type=Path, required=True, help="directory of what was gathered")
    parser.add_argument("--to", type=Path, help="the directory of mirror")
    given = parser.parse_args()
    wanted = json.load(sys.stdin)
    given.cache.mkdir(parents=True, exist_ok=True)
    # Ansible asks for every host at once.
    with (given.cache / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if given.verb == "gather":
            print(gather(wanted["mirror"], wanted["binaries"], given.cache))
        elif given.verb == "mirror":
            for name, path in keep_all(wanted["mirror"], wanted["binaries"], given.cache).items():
                (given.to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, given.to / name)
        else:
            print(json.dumps(record(wanted["mirror"], wanted["binaries"], given.cache)))


if __name__ == "__main__":
    main()
