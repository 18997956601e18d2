from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import service_state
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


@pytest.mark.parametrize(("family", "loopback"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_port_that_answers(family: socket.AddressFamily, loopback: str) -> None:
    with socket.create_server((loopback, 0), family=family) as server:
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
    systemd.reload("x.service", [], 0)
    assert systemd.actions == ["reload x.service"]


def test_reload_that_fails_is_found_wanting_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemctl_that_fails(9, tmp_path, monkeypatch)
    (tmp_path / "x.conf").write_text("")
    written = changed_at([str(tmp_path / "x.conf")])
    time.sleep(0.02)
    with pytest.raises(FailedError):
        systemd.reload("x.service", [str(tmp_path / "x.conf"), str(tmp_path / "absent")], 0)
    assert changed_at([str(tmp_path / "x.conf")]) > written


def test_the_workers_of_before_a_reload_have_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real nginx, one of whose workers has a connection to keep, and that answers by its new files at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    configuration = (
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; worker_processes 2; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port}; return 200 WORD; }} }}\n"
    )
    path = tmp_path / "nginx.conf"
    path.write_text(configuration.replace("WORD", "0"))
    nginx = subprocess.Popen(["/usr/sbin/nginx", "-p", str(tmp_path), "-c", str(path)])
    systemd = with_systemctl_that_fails(-1, tmp_path, monkeypatch)
    (tmp_path / "bin/systemctl").write_text(f"#!/bin/sh\nkill -HUP {nginx.pid}\n")
    try:
        while not answers(port):
            time.sleep(0.05)
        with socket.create_connection(("127.0.0.1", port)) as held:
            held.sendall(b"GET / HTTP/1.1\r\n")
            for word in "12345":
                path.write_text(configuration.replace("WORD", word))
                systemd.reload("nginx.service", [str(path)], nginx.pid)
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read()
                assert answer.decode() == word
    finally:
        nginx.terminate()
        nginx.wait(60)


def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    program = os.fsencode(tmp_path) + b"/\xff) 1 (\xff"
    Path(os.fsdecode(program)).symlink_to("/usr/bin/sleep")
    with subprocess.Popen([program, "60"]) as worker:
        assert worker.pid in {number for number, _ in service_state.workers_of(os.getpid())}
        worker.kill()


def test_workers_that_stay_fail_the_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemctl_that_fails(-1, tmp_path, monkeypatch)
    monkeypatch.setattr(service_state, "REPLACED_SECONDS", 0.2)
    with subprocess.Popen(["/usr/bin/sleep", "60"]) as worker:
        with pytest.raises(FailedError):
            systemd.reload("x.service", [], os.getpid())
        worker.kill()
