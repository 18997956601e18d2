"""The module, run as Ansible runs it: a program with JSON for its arguments."""

from __future__ import annotations

import getpass
import grp
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parent.parent / "library/write_files.py"
OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def run(check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
    given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}}
    ended = subprocess.run([sys.executable, str(MODULE)], input=json.dumps(given), capture_output=True, text=True, check=False)
    return dict(json.loads(ended.stdout))


def test_file_is_made_once(tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "a/b.conf"), "content": "x\n", "mode": "0640", **OWN}
    assert run(files=[wanted])["paths"] == [wanted["path"]]
    assert (tmp_path / "a/b.conf").read_text() == "x\n"
    assert (tmp_path / "a/b.conf").stat().st_mode & 0o777 == 0o640
    assert run(files=[wanted])["changed"] is False


def test_parents_can_be_entered_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run(
            files=[{"path": str(tmp_path / "a/b/c.conf"), "content": "x\n", **OWN}],
            directories=[{"path": str(tmp_path / "d/e"), **OWN}],
        )
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "d")} == {0o755}


def test_check_mode_says_and_does_nothing(tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "b.conf"), "content": "one\ntwo\n", **OWN}
    said = run(check=True, diff=True, files=[wanted])
    assert said["changed"] is True
    assert said["diff"][0]["prepared"].endswith("+one\n+two\n")
    assert not list(tmp_path.iterdir())


def test_secret_is_not_shown(tmp_path: Path) -> None:
    said = run(diff=True, files=[{"path": str(tmp_path / "s"), "content": "hidden", "secret": True, **OWN}])
    assert "hidden" not in json.dumps(said)


def test_what_its_program_refuses_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text("{}")
    said = run(files=[{"path": str(path), "content": "{", "validate": f"{sys.executable} -m json.tool %s", **OWN}])
    assert said["failed"] is True
    assert str(path) in said["msg"]
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["owner", "group"])
def test_unknown_owner_is_named(tmp_path: Path, kind: str) -> None:
    wanted = {"path": str(tmp_path / "d"), "content": "", **OWN, kind: "nobody-of-that-name"}
    assert "nobody-of-that-name" in run(files=[wanted])["msg"]
    assert run(check=True, files=[wanted])["changed"] is True


def test_mode_alone_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "e"
    wanted = {"path": str(path), "content": "x", "mode": "0600", **OWN}
    run(files=[wanted])
    path.chmod(0o644)
    assert run(files=[wanted])["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o600


def test_link_is_replaced_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(files=[{"path": str(tmp_path / "link"), "content": "x", **OWN}])
    assert not (tmp_path / "link").is_symlink()
