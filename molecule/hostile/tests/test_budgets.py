"""What a stranger's request may cost: each of these once took a gigabyte, or everybody else's seconds."""

from __future__ import annotations

import contextlib
import io
import time
import uuid
import zipfile
from pathlib import Path

import pytest
from attacker import connected, first_statuses, head, is_closed
from datasets import Instance, ct_study, of_kind, with_nested_sequences
from hosts import Host
from pydicom.uid import DeflatedExplicitVRLittleEndian
from site_services import services
from web import Web, values
from worklist_client import FILTERED, Client, new_aetitle

STATIC = "~/static-dicomweb"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
# nginx_stores_of_client, as the role has it.
PLACES_OF_CLIENT, PLACES_IN_CHUNKS = 16, 4
# A third of nginx_retrievals.
RETRIEVALS_OF_CLIENT = 8
# A code in a content sequence in a content sequence, and so on.
DEPTHS = [14, 60, 100, 700]


def nested(depth: int) -> str:
    return ".".join(["0040A730"] * depth + ["00080100"])


@pytest.fixture
def worklist(host: Host) -> Client:
    return Client(host.web.url(""))


@pytest.mark.parametrize(
    ("length", "places"), [("Content-Length: 100000", PLACES_OF_CLIENT), ("Transfer-Encoding: chunked", PLACES_IN_CHUNKS)]
)
@pytest.mark.parametrize("target", ["/dicom-web/studies", "/static-dicomweb/studies"])
def test_stalled_uploads(host: Host, target: str, length: str, places: int) -> None:
    """60 begin to store and go no further; the places of one client are fewer, and Orthanc's threads are left to the others."""
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(connected(host)) for _ in range(60)]
        for connection in connections:
            sent = head(host, "POST", target, f"Content-Type: {MULTIPART}", length)
            connection.sendall(sent + b"5\r\n" + PART[:5])
        refused = len(connections) - places
        assert first_statuses(connections, refused) == [503] * refused
        time.sleep(3)


def test_answers_that_nobody_reads(host: Host, tmp_path: Path) -> None:
    """A study of 12 MB that one client asks for 60 times and doesn't read."""
    (large,) = ct_study(1, tmp_path, rows=2500)
    assert host.archive.store(large.dataset) == 0
    target = f"/dicom-web/studies/{large.dataset.StudyInstanceUID}"
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(connected(host)) for _ in range(60)]
        for connection in connections:
            connection.sendall(head(host, "GET", target, 'Accept: multipart/related; type="application/dicom"'))
        statuses = first_statuses(connections, 60)
        assert statuses.count(503) == 60 - RETRIEVALS_OF_CLIENT and statuses.count(200) == RETRIEVALS_OF_CLIENT
        time.sleep(10)


def test_a_large_upload_that_never_comes(host: Host) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(5):
            connection = held.enter_context(connected(host))
            sent = head(host, "POST", "/dicom-web/studies", f"Content-Type: {MULTIPART}", "Content-Length: 2000000000")
            connection.sendall(sent + PART + b"x" * 100)
        time.sleep(3)


def test_a_large_upload_that_comes(host: Host, tmp_path: Path) -> None:
    """134 MB with a Content-Length: Orthanc has what it needs for it, and the instance is there."""
    [instance] = ct_study(1, tmp_path, rows=8192)
    body = PART + instance.path.read_bytes() + b"\r\n--b--\r\n"
    answer = host.web.request("POST", "/studies", data=body, headers={"Content-Type": MULTIPART})
    assert answer.status_code == 200, answer.text
    assert host.web.get(f"{instance.url}/metadata").status_code == 200
    assert host.run("find /var/lib/nginx -type f -size +1M") == ""


def test_half_sent_heads_are_closed(host: Host) -> None:
    """At the site's door, and at the proxy's own."""
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(connected(host, port)) for port in (9443, 3006) for _ in range(100)]
        for connection in connections:
            connection.sendall(b"GET /studies HTTP/1.1\r\nHost: x\r\nAccept: ")
        deadline = time.monotonic() + 45
        assert all(is_closed(connection, max(deadline - time.monotonic(), 0.1)) for connection in connections)


def test_an_archive_that_unfolds(host: Host) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros.dcm", "w") as file:
        for _ in range(600):
            file.write(bytes(1 << 20))
    assert host.web.request("POST", "~/instances", data=packed.getvalue()).status_code == 404
    assert host.web.stow([packed.getvalue()]).status_code in (400, 409)
    assert host.web.stow([packed.getvalue()], path=f"{STATIC}/studies").status_code in (400, 409)


@pytest.mark.parametrize("place", ["/studies", f"{STATIC}/studies"])
def test_sequences_within_each_other(host: Host, place: str, tmp_path: Path) -> None:
    for levels, status in ((8, 200), (24, 200), (25, 409), (1000, 409), (100_000, 409)) * 2:
        answer = host.web.stow([with_nested_sequences(levels, tmp_path).path.read_bytes()], path=place)
        assert answer.status_code == status, (levels, answer.text[:500])


@pytest.mark.parametrize("vr", [b"SQ", b"UN", b"OB"])
@pytest.mark.parametrize("place", ["/studies", f"{STATIC}/studies"])
def test_a_sequence_in_file_meta_information(host: Host, place: str, vr: bytes, tmp_path: Path) -> None:
    content = of_kind("ct", tmp_path).path.read_bytes()
    dataset = 144 + int.from_bytes(content[140:144], "little")
    sequence = b"\x02\0\x02\x01" + vr + b"\0\0\xff\xff\xff\xff" + bytes.fromhex("feff00e000000000feffdde000000000")
    assert host.web.stow([content[:dataset] + sequence + content[dataset:]], path=place).status_code == 409


def test_a_name_given_twice(worklist: Client) -> None:
    names = ",".join([f'"{number:08X}":{{"vr":"LO"}}' for number in range(10_000)])
    answer = worklist.session.post(
        f"{worklist.url}/workitems",
        data=f'[{{{names},"0000000A":{{"vr":"LO"}}}}]',
        headers={"Content-Type": "application/dicom+json"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_key_far_within(host: Host, worklist: Client, depth: int) -> None:
    assert worklist.search(f"?{nested(depth)}=1*").status_code == 400
    assert host.web.get(f"{STATIC}/studies?{nested(depth)}=1*").status_code == 400


def test_a_filter_far_within(worklist: Client) -> None:
    assert worklist.subscribe(FILTERED, new_aetitle(), f"?filter={nested(40)}%3D1").status_code == 400


def test_many_wildcards(host: Host, worklist: Client, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    instance.dataset.StudyDescription = instance.dataset.PatientName = "a" * 64
    instance.dataset.save_as(instance.path)
    for place in ("/studies", f"{STATIC}/studies"):
        assert host.web.stow([instance.path.read_bytes()], path=place).status_code == 200
    worklist.created(**{"T00741204": {"vr": "LO", "Value": ["a" * 64]}})
    pattern = "*a" * 12 + "*b"
    answers = [
        host.web.get(f"/studies?StudyDescription={pattern}"),
        host.web.get(f"/studies?PatientName={pattern}"),
        host.web.get(f"{STATIC}/studies?StudyDescription={pattern}"),
        worklist.search(f"?00741204={pattern}"),
    ]
    for answer in answers:
        assert answer.status_code in (200, 204, 400) and answer.text in ("", "[]"), answer.text


@pytest.mark.parametrize("place", ["", STATIC], ids=["orthanc", "static"])
def test_a_picture_of_any_size(host: Host, tmp_path: Path, place: str) -> None:
    instance = stored(host, of_kind("mr", tmp_path), place)
    for viewport in ("0000030000,0000030000", "30000,30000", "100000,100000"):
        answer = host.web.get(f"{place}{instance.url}/rendered?viewport={viewport}", "image/jpeg")
        assert (viewport, answer.status_code) == (viewport, 400)


def test_a_picture_of_any_size_by_wado_uri(host: Host, tmp_path: Path) -> None:
    instance = stored(host, of_kind("mr", tmp_path), "").dataset
    image = f"studyUID={instance.StudyInstanceUID}&seriesUID={instance.SeriesInstanceUID}&objectUID={instance.SOPInstanceUID}"
    for query, status in (("rows=256&columns=256", 200), ("rows=30000&columns=30000", 400)):
        answer = host.web.get(f"~/wado?requestType=WADO&contentType=image/jpeg&{image}&{query}", "image/jpeg")
        assert (query, answer.status_code) == (query, status)


@pytest.mark.parametrize("place", ["", STATIC], ids=["orthanc", "static"])
def test_a_picture_that_unfolds(host: Host, tmp_path: Path, place: str) -> None:
    """10,000 by 10,000 zeros, deflated to 98 KB."""
    bomb = deflated(of_kind("sc-rgb", tmp_path), tmp_path, 10_000)
    answer = host.web.stow([bomb.path.read_bytes()], path=f"{place}/studies")
    assert answer.status_code in (200, 202, 400, 409, 413)
    for _ in range(2):
        assert host.web.get(f"{place}{bomb.url}/rendered", "image/jpeg").status_code in (200, 400, 404, 406, 413)


@pytest.mark.parametrize(("place", "statuses"), [("", (200, 400)), (STATIC, (400,))], ids=["orthanc", "static"])
def test_a_store_of_60_000_empty_parts(host: Host, place: str, statuses: tuple[int, ...]) -> None:
    body = b"--b\r\n\r\n\r\n" * 60_000 + b"--b--\r\n"
    before = files(host)
    answer = host.web.request("POST", f"{place}/studies", data=body, headers={"Content-Type": MULTIPART})
    assert answer.status_code in statuses, answer.text[:200]
    assert answer.status_code != 200 or values(answer.json(), "00081199") == []
    assert files(host) - before < 1000


def files(host: Host) -> int:
    """Return how many files the archives have; ordinary clients go on storing."""
    return int(host.run("find /var/lib/static-dicomweb /var/lib/orthanc -type f | wc -l"))


def stored(host: Host, instance: Instance, place: str) -> Instance:
    """Store an instance below a root of DICOMweb, and return it when it is there."""
    web: Web = host.web
    assert web.stow([instance.path.read_bytes()], path=f"{place}/studies").status_code == 200
    deadline = time.monotonic() + 60
    while web.get(f"{place}{instance.url}/metadata").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return instance


def deflated(instance: Instance, directory: Path, side: int) -> Instance:
    """Make a deflated image of zeros of an instance (PS3.5 A.5)."""
    dataset = instance.dataset
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.pop("PlanarConfiguration", None)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(side * side)
    path = directory / f"{uuid.uuid4()}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Instance(dataset, path)


def test_services_that_ask_no_other_host_cant(host: Host) -> None:
    """Only these are reached from elsewhere, or reach out themselves."""
    reach_others = ("orthanc@", "haproxy", "nginx", "dicomweb-proxy")
    units = [unit for unit in services(host) if not unit.startswith(reach_others)]
    assert len(units) >= 5
    told = {unit: host.run(f"systemctl show --value -p IPAddressDeny -p IPAddressAllow {unit}").split() for unit in units}
    assert {unit: networks for unit, networks in told.items() if not {"::/0", "0.0.0.0/0", "127.0.0.0/8"} <= set(networks)} == {}
