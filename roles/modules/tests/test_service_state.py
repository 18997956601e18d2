from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from service_state import answers, changed_at, unread_drop_ins


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
