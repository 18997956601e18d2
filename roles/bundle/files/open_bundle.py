"""Opens a bundle on the control node, whole or not at all: every file must be in its manifest, with its sum, and none be missing.

Prints {"directory": …, "release": …, "platform": …, "architecture": …}. What was opened before isn't opened again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any, NoReturn

from digests import sha256_of


def refuse(bundle: Path, why: str) -> NoReturn:
    """End with what is wrong, and what to do."""
    sys.exit(f"bundle {bundle}: {why}. Copy it again from where it was made, or make it anew by playbooks/bundle.yml.")


def verified(bundle: Path, directory: Path) -> dict[str, Any]:
    """Return the manifest of what was unpacked into the directory; end where a file isn't the one that it names."""
    try:
        manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
        files: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        refuse(bundle, f"it has no manifest that can be read ({error})")
    if manifest.get("format") != 1:
        refuse(bundle, f"its form is {manifest.get('format')}, and this version of the project knows 1")
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} - {"manifest.json"}
    if missing := sorted(files.keys() - found):
        refuse(bundle, f"{missing[0]} is missing, which its manifest names")
    if strange := sorted(found - files.keys()):
        refuse(bundle, f"{strange[0]} is in it, which its manifest doesn't name")
    for name, wanted in files.items():
        has = sha256_of(directory / name)
        if has != wanted:
            refuse(bundle, f"{name} has the SHA-256 {has}, and its manifest says {wanted}")
    return manifest


def forget(cache: Path, current: Path) -> None:
    """Remove what was opened and is in use no longer, but for the one before."""
    current.touch()
    opened = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in opened[2:]:
        shutil.rmtree(path, ignore_errors=True)


def unpack(bundle: Path, target: Path) -> None:
    """Unpack a bundle; raise TarError where something in it is no file or directory below the target."""
    # Debian 12's Python 3.11.2 doesn't have what tarfile checks by itself.
    checked: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(bundle) as tar:
        for entry in tar:
            if entry.name.startswith("/") or ".." in Path(entry.name).parts or not (entry.isdir() or entry.isfile()):
                raise tarfile.TarError(f"{entry.name} is no file or directory below it")
            tar.extract(entry, target, set_attrs=False, **checked)


def main() -> None:
    """Open, and print where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="directory of what was opened")
    parser.add_argument("--sha256", default="", help="the bundle's own sum, where it is known")
    given = parser.parse_args()
    bundle: Path = given.bundle
    if not bundle.is_file():
        refuse(bundle, "there is no such file")
    digest = sha256_of(bundle)
    if given.sha256 and given.sha256 != digest:
        refuse(bundle, f"it has the SHA-256 {digest}, and bundle_sha256 says {given.sha256}")
    release = digest[:16]
    directory = given.cache / release
    if not directory.exists():
        part = given.cache / f"{release}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            unpack(bundle, part)
        except (tarfile.TarError, OSError) as error:
            refuse(bundle, f"it can't be unpacked ({error})")
        verified(bundle, part)
        # What a host is given, in one file.
        with tarfile.open(part / "repository.tar", "w") as tar:
            for name in ("repository", "repository.asc"):
                tar.add(part / name, name)
        os.replace(part, directory)
    forget(given.cache, directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    told = {name: manifest[name] for name in ("platform", "architecture")}
    print(json.dumps({"directory": str(directory.resolve()), "release": release, **told}))


if __name__ == "__main__":
    main()
