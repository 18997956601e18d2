"""Byte code of what a zip file has: kept, and never another's."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import kept_byte_code
kept_byte_code.KEPT = sys.argv[2]
sys.path.insert(0, sys.argv[3])
import sent
print(sent.said())
"""
PYTHON = Path(__file__).parents[1] / "files/python"


@pytest.mark.skipif(os.geteuid() != 0, reason="keeps root's alone")
def test_what_was_compiled_once_is_kept_and_only_used_for_the_same_source(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def said(text: str, name: str) -> str:
        package = tmp_path / name
        with zipfile.ZipFile(package, "w") as file:
            file.writestr("sent.py", f"def said():\n    return {text!r}\n")
        command = [sys.executable, "-c", PROGRAM, str(PYTHON), str(kept), str(package)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert said("one", "first.zip") == "one"
    [known] = kept.iterdir()
    written = known.stat().st_mtime_ns
    assert said("one", "second.zip") == "one"
    assert [path.stat().st_mtime_ns for path in kept.iterdir()] == [written]
    assert said("two", "first.zip") == "two"
    assert len(list(kept.iterdir())) == 2
    # As a host that lost its power leaves it.
    known.write_bytes(known.read_bytes()[:20])
    assert said("one", "first.zip") == "one"
    assert (kept.stat().st_mode & 0o077) == 0
