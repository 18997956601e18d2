"""The hospital's site from outside: who reaches what, over which certificate, as whom."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from datasets import ct_study, of_kind, read, same
from dimse_client import Archive, Modality
from hosts import PROJECT, Host, play
from pipeline_services import wait_for
from web import DICOM, Web, parts
from websockets.exceptions import InvalidStatus
from worklist_client import GLOBAL, Client, events, new_aetitle

SECRETS = PROJECT / ".cache/hospital"
os.environ.setdefault("ANSIBLE_VAULT_PASSWORD_FILE", str(PROJECT / "molecule/hospital/vault_password.sh"))
os.environ.setdefault("MOLECULE_PROJECT_DIRECTORY", str(PROJECT))
NAMES = ["vault_database_password", "vault_archive_password", "vault_radiology_password"]
SHOWN = json.dumps({"secrets": {name: "{{ " + name + " }}" for name in NAMES}})
INVENTORY = f"--inventory={SECRETS}/inventory"


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """What the vault opens to."""
    shown = subprocess.run(
        ["ansible", "localhost", INVENTORY, "-m", "ansible.builtin.debug", "-a", "var=secrets", "-e", SHOWN],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"},
    ).stdout
    return dict(json.loads(shown)["plays"][0]["tasks"][0]["hosts"]["localhost"]["secrets"])


@pytest.fixture
def web(by_name: dict[str, Host], secrets: dict[str, str]) -> Web:
    client = Web(f"https://{by_name['dicom-web'].address}:9443")
    client.session.verify = str(SECRETS / "ca.crt")
    client.session.auth = ("radiology", secrets["vault_radiology_password"])
    return client


def test_stored_by_dimse_fetched_through_the_public_face(by_name: dict[str, Host], web: Web, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path)
    assert Archive(by_name["dicom-store"].address).store(sent.dataset) == 0
    assert same(read(parts(web.get(sent.url, DICOM))[0][1]), sent.dataset)
    found = web.found("/studies", PatientName="CompressedSamples*", StudyInstanceUID=sent.dataset.StudyInstanceUID)
    assert len(found) == 1


def test_the_pipeline_over_three_hosts(by_name: dict[str, Host], web: Web, tmp_path: Path) -> None:
    sent = [instance.dataset for instance in ct_study(5, tmp_path, rows=16)]
    Modality(by_name["dicom-web"].address, 4242, "ORTHANC1").send(sent)
    files = by_name["dicom-db"]
    find = f"find /var/lib/received_dicom -path '*/{sent[0].StudyInstanceUID}/*.dcm'"
    wait_for(lambda: len(files.run(find).split()) == len(sent))

    def state() -> dict[str, Any]:
        shown = web.session.get(f"https://{by_name['dicom-web'].address}:9443/pipeline/pipeline", timeout=30)
        return dict(shown.json())

    # The last file is in the tree a moment before its study is written down as done.
    wait_for(lambda: state()["counts"]["extracted"]["instances"] >= len(sent))
    assert not state()["problems"]
    assert [part["error"] for part in state()["parts"]] == ["", ""]
    # HAProxy stands before the monitor's port, too, and says who called.
    wait_for(lambda: 'called="PYTHON_SCP" service=pipeline-monitor' in files.run("journalctl -b -u haproxy -o cat --no-pager"))


def test_metadata_names_the_public_address_and_not_the_archive(by_name: dict[str, Host], web: Web, tmp_path: Path) -> None:
    sent = of_kind("mr", tmp_path)
    assert web.stow([sent.path.read_bytes()]).status_code == 200
    told = web.get(f"{sent.url}/metadata").text
    assert f"https://{by_name['dicom-web'].address}:9443/dicom-web/" in told.replace("\\/", "/")
    assert by_name["dicom-store"].address not in told


def test_the_worklist_through_both_nginxes(by_name: dict[str, Host], web: Web) -> None:
    client = Client(f"{web.root}/dicom-web")
    client.session = web.session
    aetitle = new_aetitle()
    subscribed = client.subscribe(GLOBAL, aetitle)
    assert subscribed.headers["Content-Location"] == f"wss://{by_name['dicom-web'].address}:9443/dicom-web/ws/subscribers/{aetitle}"
    try:
        with client.channel(aetitle) as channel:
            uid, _ = client.claimed()
            assert client.request_cancellation(uid).status_code == 202
            *reports, (kind, about, event) = events(channel, 3)
        assert [dataset["00741000"]["Value"][0] for _, _, dataset in reports] == ["SCHEDULED", "IN PROGRESS"]
        # The one who asks is the user that the public face let in.
        assert (kind, about, event["00741236"]["Value"]) == (2, uid, ["radiology"])
    finally:
        client.unsubscribe(GLOBAL, aetitle)
    web.session.auth = None
    assert client.search().status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        client.channel(aetitle)
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("auth", [None, ("radiology", "wrong"), ("nginx", "guess")], ids=["nobody", "wrong password", "inner user"])
def test_strangers_are_turned_away(web: Web, auth: tuple[str, str] | None) -> None:
    web.session.auth = auth
    assert web.get("/studies?limit=1").status_code == 401


def test_plain_http_redirects_and_https_is_strict(by_name: dict[str, Host], web: Web) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"http://{by_name['dicom-web'].address}:9080/dicom-web/studies", timeout=30, allow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["Location"].startswith("https://")
    assert "max-age" in web.get("/studies?limit=1").headers["Strict-Transport-Security"]


# From the control node: DIMSE on the archive and the gateway, and both ports of the public face, nothing else.
OPEN = {"dicom-db": [22], "dicom-store": [22, 2762, 4242], "dicom-web": [22, 2762, 4242, 9080, 9443]}


@pytest.mark.parametrize("port", [22, 2762, 4242, 14242, 5432, 8042, 8443, 9080, 9443, 11112, 11113, 11114, 21112])
def test_who_reaches_which_port(host: Host, port: int) -> None:
    if port in OPEN[host.name]:
        socket.create_connection((host.address, port), timeout=30).close()
    else:
        with pytest.raises(OSError):
            socket.create_connection((host.address, port), timeout=2)


@pytest.mark.parametrize(
    ("source", "target", "port", "reached"),
    [
        ("dicom-store", "dicom-db", 5432, True),
        ("dicom-web", "dicom-db", 5432, True),
        ("dicom-store", "dicom-db", 11112, True),
        ("dicom-store", "dicom-db", 21112, False),
        ("dicom-web", "dicom-db", 11112, False),
        ("dicom-web", "dicom-db", 11113, True),
        ("dicom-store", "dicom-db", 11113, False),
        ("dicom-db", "dicom-web", 11114, True),
        ("dicom-store", "dicom-web", 11114, False),
        ("dicom-db", "dicom-store", 4242, True),
        ("dicom-web", "dicom-store", 4242, False),
        ("dicom-web", "dicom-store", 8443, True),
        ("dicom-db", "dicom-store", 8443, True),
        ("dicom-web", "dicom-store", 8042, False),
    ],
)
def test_hosts_reach_only_what_they_need(by_name: dict[str, Host], source: str, target: str, port: int, reached: bool) -> None:
    program = f"import socket; socket.create_connection(('{by_name[target].address}', {port}), 2)"
    assert (by_name[source].shell.run(f'python3 -c "{program}"').rc == 0) is reached


def test_database_is_reached_by_tls_alone(by_name: dict[str, Host]) -> None:
    counts = "count(*) filter (where ssl), count(*)"
    sql = f"select {counts} from pg_stat_ssl join pg_stat_activity using (pid) where client_addr is not null"
    told = by_name["dicom-db"].run(f'su postgres -c "psql -Atc \\"{sql}\\""').strip()
    encrypted, everyone = (int(number) for number in told.split("|"))
    assert everyone > 0
    assert encrypted == everyone
    assert "sslmode=verify-full" in by_name["dicom-store"].run("cat /etc/orthanc/instances/main.json")


def test_passwords_are_in_no_log_and_no_process_list(host: Host, secrets: dict[str, str]) -> None:
    told = host.run("journalctl --no-pager -o cat -b") + host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert not [name for name in NAMES if secrets[name] in told]


def test_password_that_vault_cant_open_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong").write_text("another-password\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "wrong"))
    ended = play("site.yml", INVENTORY)
    told = re.sub(r"\s+", " ", ended.stdout + ended.stderr)
    assert ended.returncode != 0
    assert "Refuse a password that isn't there or that Vault can't open" in told
    assert "(item=site_database_password)" in told
    assert "Decryption failed" in told
    assert not re.search(r"changed=[1-9]", told)


def test_empty_password_is_named() -> None:
    ended = play("site.yml", INVENTORY, "-e", json.dumps({"vault_database_password": ""}))
    told = re.sub(r"\s+", " ", ended.stdout + ended.stderr)
    assert ended.returncode == 2
    assert "site_database_password is empty" in told


def test_no_configuration_of_ansible_is_needed_by_who_is_not_root(tmp_path: Path) -> None:
    """Without pipelining a module's file can't be given from one unprivileged user to another."""
    configuration = tmp_path / "ansible.cfg"
    configuration.write_text(f"[defaults]\nroles_path = {PROJECT}/roles\n[inventory]\nhost_pattern_mismatch = ignore\n")
    ended = play("site.yml", INVENTORY, "--tags", "postgresql", directory=tmp_path, configuration=configuration)
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert set(re.findall(r"changed=(\d+)", ended.stdout)) == {"0"}


def test_the_site_moves_to_ipv6(by_name: dict[str, Host], web: Web, tmp_path: Path) -> None:
    """Built by names, it is built again by addresses of IPv6, with other certificates between its hosts."""
    ended = play("site.yml", INVENTORY, "-e", "scenario_by=ipv6")
    assert ended.returncode == 0, ended.stdout[-3000:]
    sent = of_kind("ct", tmp_path)
    Modality(by_name["dicom-web"].address, 4242, "ORTHANC1").send([sent.dataset])
    find = f"find /var/lib/received_dicom -path '*/{sent.dataset.StudyInstanceUID}/*.dcm'"
    wait_for(lambda: by_name["dicom-db"].run(find) != "")
    assert same(read(parts(web.get(sent.url, DICOM))[0][1]), sent.dataset)
    clients = by_name["dicom-db"].run("ss -Htn state established sport = :5432 or sport = :11112 | awk '{ print $4 }'").split()
    beyond = {client.rpartition(":")[0] for client in clients if not client.startswith("127.0.0.1")}
    assert beyond == {"[fd00:77:3::12]", "[fd00:77:3::13]"}
    state = web.session.get(f"https://{by_name['dicom-web'].address}:9443/pipeline/pipeline", timeout=30).json()
    assert [part["error"] for part in state["parts"]] == ["", ""]
