"""Gathers what the control node itself needs: the wheels of its requirements, and the collections that are installed with them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import ansible_collections
import yaml


def installed(name: str) -> Path:
    """Return where a collection is installed; end where it isn't."""
    for root in ansible_collections.__path__:
        path = Path(root, *name.split("."))
        if (path / "MANIFEST.json").exists():
            return path
    sys.exit(f"The collection {name} isn't installed beside Ansible: pip install -r requirements.txt brings it.")


def archive(name: str, target: Path) -> None:
    """Write a collection as Galaxy's archive of it, which `ansible-galaxy collection install` takes without Galaxy."""
    path = installed(name)
    version = json.loads((path / "MANIFEST.json").read_text())["collection_info"]["version"]
    with tarfile.open(target / f"{name.replace('.', '-')}-{version}.tar.gz", "w:gz") as tar:
        for part in sorted(path.iterdir()):
            if part.name != "__pycache__":
                tar.add(part, part.name)


def main() -> None:
    """Gather into a directory: `control` and `collections`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--collections", type=Path, required=True)
    parser.add_argument("directory", type=Path)
    given = parser.parse_args()
    wheels = given.directory / "control"
    download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", f"--dest={wheels}"]
    done = subprocess.run([*download, f"--requirement={given.requirements}"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip download failed:\n{done.stderr[-3000:]}")
    collections = given.directory / "collections"
    collections.mkdir()
    for collection in yaml.safe_load(given.collections.read_text())["collections"]:
        archive(collection["name"], collections)


if __name__ == "__main__":
    main()
