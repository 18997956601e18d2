from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from service_state import Systemd, answers, changed_at, unread_drop_ins


def test_latest_change_is_found_below_a_directory(tmp_path: Path) -> None:
    before = time.time() - 1
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    assert changed_at([str(tmp_path)]) >= before
    assert changed_at([str(tmp_path / "absent")]) == 0.0


def test_change_of_mode_counts_though_the_content_is_older(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    os.utime(path, (1, 1))
    assert changed_at([str(path)]) > time.time() - 60


def test_target_of_a_link_counts(tmp_path: Path) -> None:
    (tmp_path / "plugin.so.2").write_text("x")
    (tmp_path / "plugin.so").symlink_to(tmp_path / "plugin.so.2")
    assert changed_at([str(tmp_path / "plugin.so")]) >= (tmp_path / "plugin.so.2").stat().st_ctime


def test_drop_in_that_systemd_has_not_read(tmp_path: Path) -> None:
    directory = tmp_path / "x.service.d"
    directory.mkdir()
    (directory / "a.conf").write_text("")
    assert unread_drop_ins({"DropInPaths": ""}, [str(directory)]) == [str(directory / "a.conf")]
    assert unread_drop_ins({"DropInPaths": str(directory / "a.conf")}, [str(directory)]) == []
    # PostgreSQL's own conf.d is no directory of systemd's.
    assert unread_drop_ins({"DropInPaths": ""}, [str(tmp_path)]) == []


def test_port_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(port)
    assert not answers(port)


class FailedError(Exception):
    """What the stand-in for Ansible's module raises where a task fails."""


def with_systemctl_that_fails(times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """Return the module's part over a systemctl that fails so often; there is no systemd where these tests run."""
    for program in ("systemctl", "journalctl"):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/asked\n[ $(grep -c reload {tmp_path}/asked) -gt {times} ]\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def fail_json(**_: Any) -> None:
        raise FailedError

    return Systemd(SimpleNamespace(check_mode=False, fail_json=fail_json))


def test_reload_that_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemctl_that_fails(1, tmp_path, monkeypatch)
    systemd.reload("x.service", [])
    assert systemd.actions == ["reload x.service"]


def test_reload_that_fails_is_found_wanting_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemctl_that_fails(9, tmp_path, monkeypatch)
    (tmp_path / "x.conf").write_text("")
    written = changed_at([str(tmp_path / "x.conf")])
    time.sleep(0.02)
    with pytest.raises(FailedError):
        systemd.reload("x.service", [str(tmp_path / "x.conf"), str(tmp_path / "absent")])
    assert changed_at([str(tmp_path / "x.conf")]) > written
