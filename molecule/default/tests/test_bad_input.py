"""Bad input on the wire: the right status from the right component, and what was stored before stays."""

from __future__ import annotations

import gzip
import socket
import ssl
import time
from pathlib import Path

import pytest
from datasets import Instance, of_kind, read, same
from hosts import Host
from web import DICOM, JSON, parts, values


@pytest.fixture
def stored(host: Host, tmp_path: Path) -> Instance:
    """An instance that is there before, and must be there after."""
    instance = of_kind("ct", tmp_path)
    assert host.web.stow([instance.path.read_bytes()]).status_code == 200
    return instance


def still_there(host: Host, stored: Instance) -> bool:
    return same(read(parts(host.web.get(stored.url, DICOM))[0][1]), stored.dataset)


def test_stow_of_what_isnt_dicom(host: Host, stored: Instance) -> None:
    # Orthanc's plugin says 400, the site's own service 409, with a reason for each part: nothing could be stored (PS3.18 10.5.3).
    assert host.web.stow([b"this is no DICOM file" * 100]).status_code in (400, 409)
    assert still_there(host, stored)


def test_stow_of_a_truncated_file(host: Host, stored: Instance, tmp_path: Path) -> None:
    cut = of_kind("mr", tmp_path)
    answer = host.web.stow([cut.path.read_bytes()[:3000]])
    # Cut inside the pixel data, the file's header can still be read; Orthanc stores what it got or refuses, it never mends.
    assert answer.status_code in (200, 400, 409)
    assert still_there(host, stored)


def test_stow_of_a_study_under_another_studys_address(host: Host, stored: Instance, tmp_path: Path) -> None:
    other = of_kind("ct", tmp_path)
    answer = host.web.stow([other.path.read_bytes()], path=f"/studies/{stored.dataset.StudyInstanceUID}")
    assert answer.status_code in (200, 400, 409)
    assert answer.status_code != 200 or values(answer.json(), "00081198")
    assert host.web.get(other.url, DICOM).status_code == 404
    assert still_there(host, stored)


def test_stow_without_multipart(host: Host, stored: Instance) -> None:
    answer = host.web.request(
        "POST", "/studies", data=stored.path.read_bytes(), headers={"Content-Type": "application/dicom", "Accept": JSON}
    )
    # The site's own service takes it as the one instance that it is, and says that this isn't how it is sent.
    assert answer.status_code in (400, 415) or (answer.status_code == 200 and "299" in answer.headers["Warning"])
    assert still_there(host, stored)


def test_upload_that_breaks_off(host: Host, stored: Instance, tmp_path: Path) -> None:
    """The client goes away in the middle of a body: nothing of it is stored, and the next request is served."""
    lost = of_kind("mr", tmp_path)
    content = lost.path.read_bytes()
    context = ssl._create_unverified_context()
    with socket.create_connection((host.address, 9443), 5) as plain, context.wrap_socket(plain) as secured:
        head = (
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: {host.address}:9443\r\nContent-Length: {len(content) + 500}\r\n"
            'Content-Type: multipart/related; type="application/dicom"; boundary=b\r\n\r\n'
            "--b\r\nContent-Type: application/dicom\r\n\r\n"
        )
        secured.sendall(head.encode() + content[: len(content) // 2])
    time.sleep(1)
    assert host.web.get(lost.url, DICOM).status_code == 404
    assert still_there(host, stored)


def test_body_over_the_limit(host: Host, stored: Instance) -> None:
    """413 from nginx, by the length that is announced: 4001 MB never travel."""
    context = ssl._create_unverified_context()
    with socket.create_connection((host.address, 9443), 5) as plain, context.wrap_socket(plain) as secured:
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: {host.address}\r\nContent-Type: {kind}\r\n"
        secured.sendall(f"{head}Content-Length: {4001 * 1024 * 1024}\r\n\r\n".encode())
        assert secured.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert still_there(host, stored)


def test_compressed_body_is_refused(host: Host, stored: Instance) -> None:
    body = gzip.compress(b"x" * 1000)
    answer = host.web.request("POST", "/studies", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert still_there(host, stored)


@pytest.mark.parametrize("path", ["/studies/1.2.3.4.5", "/studies/1.2.3.4.5/series/6/instances/7"])
def test_what_isnt_there(host: Host, path: str) -> None:
    assert host.web.get(path, DICOM).status_code == 404


def test_export_to_the_hosts_files_is_not_there(host: Host, stored: Instance) -> None:
    found = host.identifier("Instance", SOPInstanceUID=stored.dataset.SOPInstanceUID)
    assert host.web.request("POST", f"~/instances/{found}/export", data="/tmp/stolen").status_code == 404
    assert host.run("ls /tmp").find("stolen") < 0


def test_c_store_cut_off(host: Host, stored: Instance) -> None:
    """A modality that hangs up in the middle of an association leaves nothing behind, and the next one is served."""
    with socket.create_connection((host.address, 4242), 5) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x00\xcd\x00\x01")
    assert host.archive.echo() == 0
    assert still_there(host, stored)
