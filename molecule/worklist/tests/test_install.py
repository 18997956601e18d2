"""How the service is installed: settings that are refused, another package in its place, and the way back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hosts import PROJECT, Host, not_refused, play
from worklist_client import Client


@pytest.fixture
def client(host: Host) -> Client:
    return Client(f"https://{host.address}:9443/dicom-web")


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pyupsrs_source": "npm"}, "pyupsrs_source"),
        ({"pyupsrs_source": "path"}, "pyupsrs_path"),
        ({"pyupsrs_source": "path", "pyupsrs_path": "/tmp", "pyupsrs_host": "0.0.0.0"}, "pyupsrs_host"),
        ({"pyupsrs_empty_search_status": 500}, "pyupsrs_empty_search_status"),
        ({"pyupsrs_aet": "SEVENTEEN-LETTERS"}, "pyupsrs_aet"),
        ({"pyupsrs_subscribers": ["A,B"]}, "pyupsrs_subscribers"),
        ({"pyupsrs_port": 0}, "pyupsrs_port"),
        ({"pyupsrs_port": 22}, "pyupsrs_port"),
        ({"pyupsrs_workers": 0}, "pyupsrs_workers"),
        ({"pyupsrs_database": {"host": "127.0.0.1"}}, "pyupsrs_database"),
        ({"site_worklist_password": "short"}, "site_worklist_password"),
        ({"pyupsrs_worker": 3}, "pyupsrs_worker"),
    ]
    assert not_refused(cases) == []


def test_a_site_without_a_worklist_can_be_planned() -> None:
    done = play("site.yml", "--check", "--extra-vars", json.dumps({"site_worklist": False}))
    assert done.returncode == 0, done.stdout[-3000:]


def test_another_package_takes_its_place_and_it_comes_back(host: Host, client: Client) -> None:
    """The package of others can't be had here: a checkout of our own, run by its command, stands in for it."""
    uid = client.created()
    before = host.run("readlink /opt/dicomweb-site/pyupsrs/current")
    (line,) = [line for line in host.run("cat /etc/pyupsrs/pyupsrs.env").splitlines() if "DATABASE_URI" in line]
    environment = {"PYUPSRS_DATABASE_URI": line.split('"')[1], "PYUPSRS_ANSWER_WITH_ARRAY": "false"}
    other = {"pyupsrs_source": "path", "pyupsrs_path": f"{PROJECT}/files[upsrs]", "pyupsrs_environment": environment}
    done = play("site.yml", "--extra-vars", json.dumps(other))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "pyupsrs --host 127.0.0.1 --port 8000" in host.run("systemctl cat pyupsrs.service")
    assert host.run("systemctl is-active pyupsrs.socket || true").strip() == "inactive"
    assert host.run("readlink /opt/dicomweb-site/pyupsrs/current") != before
    assert client.retrieve(uid).json()["00080018"]["Value"] == [uid]
    again = play("site.yml", "--extra-vars", json.dumps(other))
    assert all(count == "0" for count in re.findall(r"changed=(\d+)", again.stdout)), again.stdout[-3000:]

    back = play("site.yml")
    assert back.returncode == 0, back.stdout[-3000:]
    assert client.dataset(uid)["00080018"]["Value"] == [uid]
    assert host.run("systemctl is-active pyupsrs.socket").strip() == "active"
    assert host.run("readlink /opt/dicomweb-site/pyupsrs/current") == before
