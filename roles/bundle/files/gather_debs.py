"""Gathers packages of a Debian or Ubuntu release, with all that they depend on, into a signed repository of their own.

What a host has already isn't known, so nothing is taken for granted: what is left out would be missed where there is no way out.

Standard input: {"repositories": ["deb http://… trixie main"], "keyring": "/usr/share/…", "architecture": "amd64",
                 "packages": ["nginx"]}
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from digests import sha256_of
from programs import need, run
from signing import SigningKey


def configuration(directory: Path, wanted: dict[str, Any]) -> list[str]:
    """Return apt's options for a state of its own in the directory: it knows no package of this machine."""
    for path in ("lists/partial", "archives/partial", "etc"):
        (directory / path).mkdir(parents=True)
    (directory / "status").touch()
    signed = [line.replace("deb ", f"deb [signed-by={wanted['keyring']}] ", 1) for line in wanted["repositories"]]
    (directory / "etc/sources.list").write_text("\n".join(signed) + "\n")
    options = {
        "Dir::State::Lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::Etc::SourceList": directory / "etc/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::Cache::Archives": directory / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Architecture": wanted["architecture"],
        "APT::Architectures": wanted["architecture"],
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    return [f"--option={name}={value}" for name, value in options.items()]


def index(repository: Path) -> None:
    """Write Packages and Release of a repository whose packages are in it (the form is apt's flat one)."""
    entries = []
    for path in sorted(repository.glob("*.deb")):
        fields = run("dpkg-deb", "--field", str(path)).rstrip()
        entries.append(f"{fields}\nFilename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {sha256_of(path)}\n")
    packages = "\n".join(entries).encode()
    (repository / "Packages").write_bytes(packages)
    digest = hashlib.sha256(packages).hexdigest()
    now = format_datetime(datetime.now(UTC), usegmt=True)
    named = f"Origin: dicomweb-bundle\nLabel: dicomweb-bundle\nDate: {now}\n"
    (repository / "Release").write_text(f"{named}SHA256:\n {digest} {len(packages)} Packages\n")


def main() -> None:
    """Gather what standard input names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="directory of the repository, which is made")
    repository: Path = parser.parse_args().repository
    wanted = json.load(sys.stdin)
    need("apt-get", "dpkg-deb", "gpg")
    if not Path(wanted["keyring"]).exists():
        sys.exit(
            f"This machine has no {wanted['keyring']}: install the package of that name (debian-archive-keyring, ubuntu-keyring)."
        )
    repository.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        options = configuration(Path(scratch), wanted)
        run("apt-get", "update", "--error-on=any", *options)
        chosen = ["--yes", "--download-only", "--no-install-recommends", *options]
        run("apt-get", "install", *chosen, *wanted["packages"])
        for path in (Path(scratch) / "archives").glob("*.deb"):
            # apt writes an epoch's colon as %3a, which a URL would have as something else.
            path.rename(repository / path.name.replace("%3a", "_"))
    index(repository)
    with SigningKey() as key:
        key.sign_clear(repository / "Release", repository / "InRelease")
        key.export(repository.with_suffix(".asc"))
    (repository / "Release").unlink()


if __name__ == "__main__":
    main()
