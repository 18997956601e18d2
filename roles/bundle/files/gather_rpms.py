"""Gathers packages of a release of RHEL, with all that they depend on, into a signed repository of their own.

Standard input: {"repositories": [{"name": "…", "baseurl": "…", "options": {}}], "release": "9", "architecture": "x86_64",
                 "packages": ["nginx"], "module": "postgresql:16"}
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from programs import need, run
from signing import SigningKey

_OPENERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}


def repository_file(repository: dict[str, Any]) -> str:
    """Return the section of a repository for dnf."""
    lines = {"name": repository["name"], "baseurl": repository["baseurl"], **repository.get("options", {})}
    return f"[{repository['name']}]\n" + "".join(f"{name}={value}\n" for name, value in lines.items())


def streams(cache: Path, module: str) -> list[dict[str, Any]]:
    """Return what the repositories say of a stream of a module: without it, dnf would keep its packages back."""
    name, _, stream = module.partition(":")
    found = []
    for path in cache.glob("*/repodata/*modules.y*ml*"):
        content = _OPENERS.get(path.suffix, bytes)(path.read_bytes())
        for document in yaml.safe_load_all(content):
            data = document.get("data", {})
            if document["document"] == "modulemd" and data["name"] == name and str(data["stream"]) == stream:
                found.append(document)
    return found


def main() -> None:
    """Gather what standard input names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, help="directory of the repository, which is made")
    repository: Path = parser.parse_args().repository
    wanted = json.load(sys.stdin)
    need("dnf", "createrepo_c", "rpm", "gpg")
    repository.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "repos").mkdir()
        for one in wanted["repositories"]:
            (directory / f"repos/{one['name']}.repo").write_text(repository_file(one))
        options = [
            f"--installroot={directory}/root",
            f"--releasever={wanted['release']}",
            f"--forcearch={wanted['architecture']}",
            f"--setopt=reposdir={directory / 'repos' if wanted['repositories'] else '/etc/yum.repos.d'}",
            f"--setopt=cachedir={directory}/cache",
            f"--setopt=module_platform_id=platform:el{wanted['release']}",
            "--setopt=install_weak_deps=False",
            "--assumeyes",
            "--quiet",
        ]
        run("dnf", "makecache", *options)
        if wanted["module"]:
            run("dnf", "module", "enable", *options, wanted["module"])
        run("dnf", "install", "--downloadonly", f"--downloaddir={repository}", *options, *wanted["packages"])
        if wanted["module"]:
            documents = streams(directory / "cache", wanted["module"])
            (repository / "modules.yaml").write_text(yaml.safe_dump_all(documents, explicit_start=True))
    run("createrepo_c", "--quiet", str(repository))
    with SigningKey() as key:
        key.sign_detached(repository / "repodata/repomd.xml")
        key.export(repository.with_suffix(".asc"))


if __name__ == "__main__":
    main()
