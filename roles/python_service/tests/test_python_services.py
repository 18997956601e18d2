from __future__ import annotations

from typing import Any

import pytest
from python_services import complete, directories, environments, files, releases, units

TREE = {"command": "run", "user": "u", "writable": ["/srv/tree"], "reader_group": "readers"}
PAIR: list[dict[str, Any]] = [
    {**TREE, "name": "one", "port": "8000"},
    {**TREE, "name": "two", "venv": "one", "run": False},
]


def test_services_that_share_an_environment_have_it_once() -> None:
    found = environments(complete(PAIR, "/p"))
    assert found == [{"name": "one", "lock": "/p/requirements/one.txt", "requirement": ""}]


def test_a_release_is_named_as_its_archive() -> None:
    (release,) = releases({"one": "/cache/lock-0123.tgz"}, "python3.11")
    assert release == {
        "directory": "/opt/dicomweb-site/one",
        "name": "lock-0123",
        "archive": "/cache/lock-0123.tgz",
        "python": "python3.11",
    }


def test_a_directory_that_services_share_is_made_once() -> None:
    found = directories(complete(PAIR, "/p"))
    assert [one["path"] for one in found] == ["/etc/one", "/srv/tree", "/etc/two"]
    assert found[1] == {"path": "/srv/tree", "owner": "u", "group": "readers", "mode": "2750"}


def test_what_is_written_is_its_users_alone_where_nobody_else_reads_it() -> None:
    (_, tree) = directories(complete([{**PAIR[0], "reader_group": ""}], "/p"))
    assert (tree["group"], tree["mode"]) == ("u", "0750")


def test_a_file_without_a_source_is_none_and_a_secret_is_its_users() -> None:
    given = [{"name": "ca.pem", "src": ""}, {"name": "a.json", "src": "a.json.j2"}, {"name": "key", "src": "/k", "secret": True}]
    plain, secret = files(complete([{**PAIR[0], "files": given}], "/p"))
    assert (plain["dest"], plain["group"], plain["mode"], plain["secret"]) == ("/etc/one/a.json", "root", "0644", False)
    assert (secret["src"], secret["group"], secret["mode"], secret["secret"]) == ("/k", "u", "0640", True)


def test_one_that_is_not_to_run_is_stopped_and_waited_for_at_no_port() -> None:
    found = {unit["name"]: unit for unit in units(complete([*PAIR, {**PAIR[0], "name": "three", "run": False}], "/p"))}
    states = {name: unit["state"] for name, unit in found.items() if name.endswith(".service")}
    assert states == {"one.service": "started", "two.service": "stopped", "three.service": "stopped"}
    assert found["one.service"]["ports"] == [8000] and found["three.service"]["ports"] == []
    assert "/opt/dicomweb-site/one/current" in found["two.service"]["files"]


@pytest.mark.parametrize(
    ("socket", "run", "expected"),
    [("", True, "stopped"), ("h:1", True, "started"), ("h:1", False, "stopped")],
)
def test_systemd_listens_where_it_is_asked_to(socket: str, run: bool, expected: str) -> None:
    unit = units(complete([{**PAIR[0], "socket": socket, "run": run}], "/p"))[0]
    assert (unit["name"], unit["state"]) == ("one.socket", expected)


def test_a_service_is_started_after_its_socket() -> None:
    names = [unit["name"] for unit in units(complete(PAIR, "/p"))]
    assert names == ["one.socket", "one.service", "two.socket", "two.service"]
