"""mkdicomweb as it is called."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from static_dicomweb.make import main


def run(root: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--root", str(root), *map(str, arguments)])


def create(root: Path, *paths: Path) -> Result:
    return run(root, "create", *paths)
