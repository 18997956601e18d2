"""What is served is named, everything else is not there."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from attacker import connected, head, status, status_of
from datasets import of_kind
from hosts import Host
from web import values

FOREIGN = "Origin: https://evil.example"
# Method, target, and the status that says that it reached nobody.
NOT_SERVED = [
    ("GET", "/dicom-web/..%5ctools%5cnow", 400),
    ("GET", "/dicom-web/..\\tools\\now", 400),
    ("GET", "/dicom-web/%2e%2e/tools/now", 400),
    ("GET", "/dicom-web//studies", 400),
    ("GET", "/dicom-web/studies;a=b", 400),
    ("POST", "/dicom-web/..\\tools\\shutdown", 400),
    ("POST", "/dicom-web/..%5Ctools%5Cshutdown", 400),
    ("DELETE", "/dicom-web/..\\patients\\1", 400),
    ("POST", "/dicom-web/workitems/../subscribers/..%2Fservers%2Fevil%2Fget", 400),
    ("POST", "/tools/shutdown", 404),
    ("POST", "/tools/shutdown/", 404),
    ("POST", "/tools/reset/", 404),
    ("PUT", "/dicom-web/servers/evil", 404),
    ("POST", "/dicom-web/servers/evil/get", 404),
    ("PUT", "/peers/evil", 404),
    ("PUT", "/modalities/evil", 404),
    ("DELETE", "/changes", 404),
    ("PUT", "/tools/accepted-transfer-syntaxes", 404),
    ("POST", "/tools/create-dicom", 404),
    ("POST", "/tools/bulk-delete", 404),
    ("POST", "/instances", 404),
    ("GET", "/app/explorer.html", 404),
    ("DELETE", "/dicom-web/studies/1.2.3", 405),
    ("PUT", "/dicom-web/studies", 405),
    ("TRACE", "/dicom-web/studies", 405),
]


def test_nothing_else_is_reached(host: Host) -> None:
    state = host.orthanc(8042, "/system"), host.orthanc(8042, "/tools/accepted-transfer-syntaxes"), host.orthanc(8042, "/peers")
    last = host.orthanc(8042, "/changes?last")["Last"]
    seen = [(method, target, status(host, method, target, body=b"[]")) for method, target, _ in NOT_SERVED]
    assert seen == NOT_SERVED
    assert host.orthanc(8042, "/changes?last")["Last"] >= last > 0
    assert "evil" not in {*host.orthanc(8042, "/dicom-web/servers"), *host.orthanc(8042, "/modalities")}
    now = host.orthanc(8042, "/system"), host.orthanc(8042, "/tools/accepted-transfer-syntaxes"), host.orthanc(8042, "/peers")
    assert now == state


def test_a_page_elsewhere_changes_nothing(host: Host) -> None:
    assert status(host, "POST", "/tools/bulk-delete", FOREIGN, "Content-Type: text/plain", body=b"{}") in (403, 404)
    assert status(host, "POST", "/dicom-web/workitems", FOREIGN, "Content-Type: text/plain", body=b"[{}]") == 403
    assert status(host, "POST", "/dicom-web/studies", FOREIGN, "Content-Type: text/plain", body=b"x") == 403
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert status(host, "GET", "/dicom-web/ws/subscribers/OWN", *upgrade) == 101
    assert status(host, "GET", "/dicom-web/ws/subscribers/OWN", *upgrade, FOREIGN) == 403


@pytest.mark.parametrize("name", ["evil.example", "x;proto=ftp", 'a"b', "a b", ""])
def test_a_name_that_isnt_the_sites_is_refused(host: Host, name: str) -> None:
    assert status(host, "GET", "/dicom-web/studies?limit=1", f"Host: {name}") in (400, 421)


def test_addresses_are_the_sites_own_whatever_the_client_calls_it(host: Host, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    assert host.web.stow([instance.path.read_bytes()]).status_code == 200
    with connected(host) as connection:
        path = f"/dicom-web/studies?StudyInstanceUID={instance.dataset.StudyInstanceUID}"
        connection.sendall(head(host, "GET", path, f"Host: {host.address}", "Accept: application/dicom+json", "Connection: close"))
        body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")[2]
    [study] = json.loads(body[body.index(b"[") : body.rindex(b"]") + 1])
    assert values(study, "00081190") == [host.web.url(f"/studies/{instance.dataset.StudyInstanceUID}")]


def test_the_proxy_passes_on_what_is_below_its_address(host: Host) -> None:
    for target, method, wanted in (
        ("/dicom-web/../../admin", "GET", 404),
        ("/../tools/now", "GET", 404),
        ("/..%5ctools%5cnow", "GET", 404),
        ("/studies/1.2.3/../../admin/metadata", "GET", 404),
        ("/studies/1.2.3", "DELETE", 405),
        ("/servers/evil", "PUT", 404),
    ):
        assert (target, status(host, method, target, body=b"{}" * (method == "PUT"), port=3006)) == (target, wanted)


def test_only_stores_may_be_large(host: Host) -> None:
    """2 GB are announced, or a chunk of them: no memory is set aside for what never comes."""
    for target in ("/dicom-web/workitems", "/instances", "/dicom-web/studies/1.2.3/series"):
        for length, beginning in (("Content-Length: 2000000000", b""), ("Transfer-Encoding: chunked", b"77359400\r\n")):
            with connected(host) as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(head(host, "POST", target, length, "Content-Type: application/dicom+json"))
                    connection.sendall(beginning + b"[" * (2 << 20))
                assert status_of(connection) in (404, 405, 413, 0), (target, length)
