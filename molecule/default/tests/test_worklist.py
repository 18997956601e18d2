"""UPS-RS through nginx, by TLS and in the clear, with the notification channel."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hosts import Host
from worklist_client import GLOBAL, Client, discontinued, element, events, new_aetitle, new_uid, performed, workitem


@pytest.fixture
def client(host: Host) -> Client:
    return Client(f"https://{host.address}:9443/dicom-web")


@pytest.fixture
def aetitle(client: Client) -> Iterator[str]:
    made = new_aetitle()
    yield made
    client.unsubscribe(GLOBAL, made)


def test_a_workitem_from_its_creation_to_its_completion(host: Host, client: Client, aetitle: str) -> None:
    uid, transaction_uid = new_uid(), new_uid()
    subscribed = client.subscribe(GLOBAL, aetitle)
    assert subscribed.headers["Content-Location"] == f"wss://{host.address}:9443/dicom-web/ws/subscribers/{aetitle}"
    with client.channel(aetitle) as channel:
        created = client.create(workitem(), uid)
        assert (created.status_code, created.headers["Location"]) == (201, f"{client.url}/workitems/{uid}")
        assert client.change_state(uid, "IN PROGRESS", transaction_uid).status_code == 200
        assert client.update(uid, performed(), transaction_uid).status_code == 200
        assert client.change_state(uid, "COMPLETED", transaction_uid).status_code == 200
        states = [dataset["00741000"]["Value"][0] for _, about, dataset in events(channel, 3) if about == uid]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert client.found(f"?00080018={uid}&00741000=COMPLETED") == [uid]


def test_addresses_are_those_that_the_client_used(host: Host, aetitle: str) -> None:
    plain = Client(f"http://{host.address}:9080/dicom-web")
    uid = plain.created()
    answer = plain.subscribe(uid, aetitle)
    assert answer.headers["Content-Location"] == f"ws://{host.address}:9080/dicom-web/ws/subscribers/{aetitle}"
    with plain.channel(aetitle) as channel:
        assert events(channel, 1)[0][1] == uid
    refused = plain.change_state(uid, "COMPLETED", new_uid())
    assert refused.headers["Warning"].startswith(f"299 http://{host.address}:9080/dicom-web: The submitted request is inconsistent")


def test_what_is_encoded_arrives_as_it_was_sent(client: Client) -> None:
    name = new_uid()[-10:]
    uid = client.created(
        T00100010=element("PN", {"Alphabetic": f"Müller & Söhne {name}^=".rstrip("=^")}), T00100020=element("LO", f"A/B?{name}")
    )
    assert client.found(f"?PatientName=M%C3%BCller%20%26%20S%C3%B6hne%20{name}") == [uid]
    assert client.found(f"?PatientID=A%2FB%3F{name}") == [uid]
    aetitle = f"A%2FB%20{name[:8]}"
    assert client.subscribe(uid, aetitle).headers["Content-Location"].endswith(f"/ws/subscribers/{aetitle}")
    with client.channel(aetitle) as channel:
        assert events(channel, 1)[0][1] == uid
    assert client.unsubscribe(uid, aetitle).status_code == 200


def test_xml_and_capabilities(client: Client) -> None:
    uid = client.created()
    answer = client.retrieve(uid, headers={"Accept": "application/dicom+xml"})
    assert answer.headers["Content-Type"] == "application/dicom+xml"
    assert uid in {node.text for node in ElementTree.fromstring(answer.content).iter()}
    wadl = ElementTree.fromstring(client.session.options(f"{client.url}/workitems").content)
    assert wadl[0].get("base") == client.url and len(wadl[0]) == 8


def test_a_long_body_is_refused(client: Client) -> None:
    assert client.create(workitem(T00104000=element("LT", "x" * 2_000_000))).status_code == 413


def test_cancel_and_final_states(client: Client) -> None:
    scheduled = client.created()
    assert client.request_cancellation(scheduled).status_code == 202
    uid, transaction_uid = client.claimed()
    assert client.update(uid, discontinued(), transaction_uid).status_code == 200
    assert client.change_state(uid, "CANCELED", transaction_uid).status_code == 200
    assert client.update(uid, {"00741204": element("LO", "x")}, transaction_uid).status_code == 400


def test_the_service_itself_answers_the_host_alone(host: Host, client: Client) -> None:
    program = "import sys, urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8000' + sys.argv[1]).read().decode())"
    assert host.run(f"python3 -c {shlex.quote(program)} /health").strip() == "ok"
    assert "pyupsrs_workitems" in host.run(f"python3 -c {shlex.quote(program)} /metrics")
    for path in ("/health", "/metrics", "/dicom-web/health", "/dicom-web/metrics"):
        assert "pyupsrs" not in client.session.get(f"https://{host.address}:9443{path}").text
    with pytest.raises(OSError):
        client.session.get(f"http://{host.address}:8000/health", timeout=5)


def test_its_password_stands_nowhere_but_in_its_file(host: Host) -> None:
    (line,) = [line for line in host.run("cat /etc/pyupsrs/pyupsrs.env").splitlines() if "DATABASE_URI" in line]
    password = line.split("password='")[1].split("'")[0]
    assert len(password) == 32
    assert host.run("stat -c %a:%U /etc/pyupsrs/pyupsrs.env").strip() == "600:root"
    for command in ("ps -ef", "journalctl --no-pager -u pyupsrs", "systemctl show pyupsrs.service"):
        assert password not in host.run(command)
    exposure = host.run("systemd-analyze security --no-pager pyupsrs.service | tail -1")
    assert float(re.findall(r": ([0-9.]+) ", exposure)[0]) < 2
