"""What dicomwebserver answers, which can't be a file."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
import requests
from datasets import Instance, ct_study, of_kind, read
from dicomweb_client.api import DICOMwebClient
from mkdicomweb import create, run
from nginx_server import Nginx
from PIL import Image
from proxy_server import parts_of
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from servers import free_port, stop
from static_server import JSON, Server


@pytest.fixture(scope="module")
def server(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tree, tmp_path_factory.mktemp("server") / "log")
    yield made
    stop(made.process, made.log)
    assert not list((tree / "incoming").iterdir())


@pytest.mark.parametrize("kind", ["ct", "mr-rle", "sr", "ecg", "pdf", "mr-big-endian"])
def test_it_serves_files_and_metadata_for_who_has_no_nginx(server: Server, made: dict[str, Instance], kind: str) -> None:
    instance = made[kind]
    content = instance.path.read_bytes()
    answer = server.get(instance.url, "application/dicom; transfer-syntax=*")
    assert answer.content == content
    study = instance.url.partition("/series")[0]
    [(_, part)] = parts_of(server.get(study, 'multipart/related; type="application/dicom"; transfer-syntax=*'))
    assert part == content
    [model] = server.found(f"{instance.url}/metadata")
    assert model["00080018"]["Value"] == [instance.dataset.SOPInstanceUID]
    assert (
        server.get(f"{study}/metadata", 'multipart/related; type="application/dicom+xml"').content.count(b"<NativeDicomModel") == 1
    )


@pytest.mark.parametrize("kind", ["ecg", "pdf", "sr", "mr-rle", "rt-dose-multi-frame"])
def test_all_bulk_data_of_an_instance_and_of_its_study(server: Server, made: dict[str, Instance], kind: str) -> None:
    instance = made[kind]
    [model] = server.found(f"{instance.url}/metadata")
    for path in (instance.url, instance.url.partition("/series")[0]):
        came = parts_of(server.get(f"{path}/bulkdata"))
        expected = [tag for tag, attribute in model.items() if "BulkDataURI" in attribute]
        if kind == "mr-rle":
            assert [each[0] for each in came] == ["image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"]
        elif kind == "ecg":
            # Inside its sequence.
            waveforms = [item.WaveformData for item in instance.dataset.WaveformSequence]
            assert [content for _, content in came] == waveforms
        else:
            assert [content for _, content in came] == [instance.dataset[tag].value for tag in expected]
    assert server.get(f"{instance.url}/bulkdata", "application/octet-stream").status_code == 406


def test_frames_in_any_order(server: Server, made: dict[str, Instance]) -> None:
    instance = made["rt-dose-multi-frame"]
    size = instance.dataset.Rows * instance.dataset.Columns * instance.dataset.BitsAllocated // 8
    came = [content for _, content in parts_of(server.get(f"{instance.url}/frames/3,1", 'multipart/related; type="*/*"'))]
    assert came == [instance.dataset.PixelData[2 * size : 3 * size], instance.dataset.PixelData[:size]]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", ["mr", "mr-jpeg-2000"])
def test_other_transfer_syntaxes(server: Server, made: dict[str, Instance], kind: str, syntax: str) -> None:
    answer = server.get(made[kind].url, f"application/dicom; transfer-syntax={syntax}")
    assert answer.status_code == 200, answer.text
    came = read(answer.content)
    assert came.file_meta.TransferSyntaxUID == syntax
    assert numpy.array_equal(came.pixel_array, made[kind].dataset.pixel_array)


@pytest.mark.parametrize("kind", ["ct", "us-palette", "sc-rgb", "jpeg-baseline", "rt-dose-multi-frame"])
@pytest.mark.parametrize("accept", ["image/jpeg", "image/png"])
def test_images_for_people_at_every_level(server: Server, made: dict[str, Instance], kind: str, accept: str) -> None:
    instance = made[kind]
    study, _, rest = instance.url.partition("/series")
    series = f"{study}/series{rest.partition('/instances')[0]}"
    for path in (study, series, instance.url, f"{instance.url}/frames/1"):
        for what in ("rendered", "thumbnail"):
            answer = server.get(f"{path}/{what}", accept)
            assert (answer.status_code, answer.headers["content-type"]) == (200, accept), answer.text
            image = Image.open(io.BytesIO(answer.content))
            assert (
                max(image.size) == 128 if what == "thumbnail" else image.size == (instance.dataset.Columns, instance.dataset.Rows)
            )


@pytest.fixture(scope="module")
def front(server: Server, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("front"), tree, server=server.url.removesuffix("/static-dicomweb"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def front_alone(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Nginx whose dicomwebserver is down."""
    made = Nginx(tmp_path_factory.mktemp("front"), tree, server=f"http://127.0.0.1:{free_port()}")
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("path", "accept", "is_file"),
    [
        ("{study}/metadata", JSON, True),
        ("{study}/metadata", "application/dicom+xml", False),
        ("{study}/series", JSON, True),
        ("{study}/series?Modality=MR", JSON, False),
        ("/studies", JSON, False),
        ("{url}", "application/dicom", True),
        ("{url}", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1", False),
        ("{url}/frames/1", "*/*", True),
        ("{url}/frames/1,1", "*/*", False),
        ("{url}/thumbnail", "image/jpeg", True),
        ("{url}/thumbnail", "image/png", False),
        ("{url}/rendered", "image/jpeg", False),
    ],
)
def test_nginx_answers_what_is_a_file_and_the_server_the_rest(
    front: Nginx, front_alone: Nginx, made: dict[str, Instance], path: str, accept: str, is_file: bool
) -> None:
    url = made["mr"].url
    asked = path.format(url=url, study=url.partition("/series")[0])
    answer = front.get(asked, accept)
    assert answer.status_code == 200 and answer.content, answer.text
    assert front_alone.get(asked, accept).status_code == (200 if is_file else 502)


@pytest.mark.parametrize("below", ["{study}/series", "{study}/instances", "{series}/instances"])
def test_what_nginx_has_as_a_file_is_what_the_server_finds(
    front: Nginx, server: Server, made: dict[str, Instance], below: str
) -> None:
    url = made["mr"].url
    asked = below.format(study=url.partition("/series")[0], series=url.partition("/instances")[0])
    # A search that every result matches is never a file.
    found = {first(each, "00080018", "0020000E"): each for each in server.found(f"{asked}?includefield=all&Modality=MR")}
    told = {first(each, "00080018", "0020000E"): each for each in front.get(asked, JSON).json()}
    assert found.keys() == told.keys() and told
    for uid, attributes in told.items():
        # All that the server tells beyond it belongs to a level above the one that was asked below.
        assert attributes.items() <= found[uid].items()
        assert below != "{study}/instances" or attributes["0020000E"]["Value"][0] in url


def first(dataset: dict[str, Any], *tags: str) -> str:
    """Return the value of the first of the tags that is there."""
    return next(str(dataset[tag]["Value"][0]) for tag in tags if tag in dataset)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Studies that differ in what is searched for."""
    directory = tmp_path_factory.mktemp("searched")
    files = []
    for number, (name, date, patient) in enumerate(
        [("Müller^Anna", "20200101", "A1"), ("Mueller^Bernd", "20210615", "B2"), ("Yamada^Tarou=山田^太郎", "20211231", "A3")]
    ):
        below = directory / str(number)
        below.mkdir()
        for instance in ct_study(number + 2, below, rows=16, PatientID=patient, StudyDate=date):
            dataset = instance.dataset
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.PatientName = name
            dataset.save_as(instance.path)
            files.append(instance.path)
    mr = of_kind("mr", directory)
    files.append(mr.path)
    root = directory / "tree"
    assert create(root, *files).exit_code == 0
    made = Server(root, directory / "log")
    yield made
    stop(made.process, made.log)


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/studies", 4),
        ("/series", 4),
        ("/instances", 10),
        ("/studies?PatientID=A*", 2),
        ("/studies?PatientID=A?", 2),
        ("/studies?00100020=B2", 1),
        ("/studies?PatientID=NOBODY", 0),
        ("/studies?StudyDate=20210101-20211231", 2),
        ("/studies?StudyDate=-20201231", 2),
        ("/studies?StudyDate=20210615", 1),
        ("/studies?PatientName=m%C3%BCller*", 1),
        ("/studies?PatientName=%E5%B1%B1%E7%94%B0*", 1),
        ("/studies?PatientName=anna%20mull&fuzzymatching=true", 1),
        ("/studies?ModalitiesInStudy=MR", 1),
        ("/studies?NumberOfStudyRelatedInstances=3", 1),
        ("/series?Modality=CT", 3),
        ("/series?PatientID=B2", 1),
        ("/instances?PatientID=B2", 3),
        ("/instances?InstanceNumber=1&Modality=CT", 3),
        ("/studies?limit=2", 2),
        ("/studies?limit=2&offset=3", 1),
        ("/studies?limit=0", 0),
    ],
)
def test_searches(searched: Server, path: str, count: int) -> None:
    assert len(searched.found(path)) == count


def test_searches_below_a_study(searched: Server) -> None:
    [study] = searched.found("/studies?PatientID=B2")
    uid = study["0020000D"]["Value"][0]
    assert study["00201208"]["Value"] == [3] and study["00080061"]["Value"] == ["CT"]
    assert study["00081190"]["Value"] == [f"/static-dicomweb/studies/{uid}"]
    [series] = searched.found(f"/studies/{uid}/series")
    assert series["00201209"]["Value"] == [3] and "00100010" not in series
    instances = searched.found(f"/studies/{uid}/series/{series['0020000E']['Value'][0]}/instances")
    assert [instance["00200013"]["Value"] for instance in instances] == [[1], [2], [3]]
    [second] = searched.found(f"/studies/{uid}/instances?InstanceNumber=2")
    # Below a study alone, an instance is told with its series.
    assert second == instances[1] | {tag: series[tag] for tag in second if tag not in instances[1]}
    assert searched.found("/studies/1.2.3/series") == []


def test_fields_that_are_asked_for(searched: Server) -> None:
    [study] = searched.found("/studies?PatientID=B2&includefield=SliceThickness,PatientAge")
    assert "00180050" in study
    [plain] = searched.found("/studies?PatientID=B2")
    assert "00180050" not in plain
    [series] = searched.found("/series?PatientID=B2")
    # Who searches from the root has what the levels above have.
    assert series["00100020"]["Value"] == ["B2"]
    assert len(searched.found("/studies?PatientID=B2&includefield=all")[0]) > len(plain)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies?limit=-1", 400),
        ("/studies?NoSuchKey=1", 400),
        ("/studies?StudyDate=yesterday-", 400),
        ("/studies?StudyInstanceUID=..%2F..", 400),
        ("/studies/..%2f..%2fetc/metadata", 404),
        ("/studies/1.2.3/metadata", 404),
        ("/studies/1.2.x", 400),
        (f"/studies?PatientName={'x' * 20000}", 414),
    ],
)
def test_bad_requests_are_told(searched: Server, path: str, status: int) -> None:
    assert searched.get(path, JSON).status_code == status


def test_dicomweb_client_uses_it(searched: Server) -> None:
    client = DICOMwebClient(searched.url)
    [study] = client.search_for_studies(search_filters={"PatientID": "A3"})
    uid = study["0020000D"]["Value"][0]
    assert len(client.retrieve_study(uid)) == 4
    assert len(client.retrieve_study_metadata(uid)) == 4
    [first, *_] = client.search_for_instances(uid)
    series, instance = first["0020000E"]["Value"][0], first["00080018"]["Value"][0]
    [frame] = client.retrieve_instance_frames(uid, series, instance, [1])
    dataset = client.retrieve_instance(uid, series, instance)
    assert isinstance(dataset, pydicom.Dataset) and frame == dataset.PixelData


def stow(url: str, *contents: bytes) -> requests.Response:
    body = b"".join(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents) + b"--x--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x', "Accept": JSON}
    return requests.post(url, data=body, headers=headers, timeout=60)


def test_what_is_stored_is_published_and_what_is_removed_is_gone(tmp_path: Path) -> None:
    instances = ct_study(4, tmp_path, rows=16)
    root = tmp_path / "tree"
    server = Server(root, tmp_path / "log")
    front = Nginx(tmp_path, root, server=server.url.removesuffix("/static-dicomweb"))
    studies = f"{front.url}/static-dicomweb/studies"
    study = instances[0].dataset.StudyInstanceUID
    contents = [instance.path.read_bytes() for instance in instances]
    try:
        told = stow(studies, *contents[:3])
        assert told.status_code == 200, told.text
        assert [item["00081155"]["Value"][0] for item in told.json()["00081199"]["Value"]] == [
            instance.dataset.SOPInstanceUID for instance in instances[:3]
        ]
        assert len(front.get(f"/studies/{study}/metadata", JSON).json()) == 3
        assert stow(f"{studies}/{study}", contents[3]).status_code == 200
        assert len(front.get(f"/studies/{study}/metadata", JSON).json()) == 4
        # Again the same; another content; of another study; nothing that can be read.
        assert stow(studies, contents[0]).status_code == 200
        other = instances[0].dataset
        other.PixelData = bytes(reversed(other.PixelData))
        other.save_as(tmp_path / "other")
        refused = stow(studies, (tmp_path / "other").read_bytes(), contents[1], b"no DICOM")
        assert refused.status_code == 202
        assert [item["00081197"]["Value"] for item in refused.json()["00081198"]["Value"]] == [[0x0111], [0xC000]]
        assert stow(f"{studies}/1.2.3", contents[0]).json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
        assert stow(studies).status_code == 400
        assert front.get(instances[0].url, "application/dicom").content == contents[0]

        # Two of the instances are deleted by themselves.
        for instance in instances[:2]:
            assert requests.delete(f"{server.url}{instance.url}", timeout=60).status_code == 204
            assert requests.delete(f"{server.url}{instance.url}", timeout=60).status_code == 404
            assert front.get(instance.url).status_code == 404
        left = [instance.dataset.SOPInstanceUID for instance in instances[2:4]]
        for path in (f"/studies/{study}/metadata", f"/studies/{study}/instances"):
            assert [row["00080018"]["Value"][0] for row in front.get(path, JSON).json()] == left
        assert [row["00080018"]["Value"][0] for row in server.found(f"/instances?StudyInstanceUID={study}")] == left
        assert front.get(f"/studies/{study}").ok
        assert stow(studies, contents[0]).status_code == 200
        # The last series takes its study with it.
        series = instances[0].url.partition("/instances")[0]
        assert requests.delete(f"{server.url}{series}", timeout=60).status_code == 204
        assert front.get(f"/studies/{study}/metadata", JSON).status_code == 404
        assert server.found("/studies") == []
        assert stow(studies, *contents).status_code == 200

        assert requests.delete(f"{studies}/{study}", timeout=60).status_code == 204
        assert requests.delete(f"{studies}/{study}", timeout=60).status_code == 404
        for path in (f"/studies/{study}/metadata", instances[0].url, f"{instances[0].url}/frames/1"):
            assert front.get(path).status_code == 404
        assert server.found("/studies") == []
    finally:
        front.stop()
        stop(server.process, server.log)


def test_versions_of_one_second_have_validators_of_their_own(tmp_path: Path) -> None:
    instance = ct_study(1, tmp_path, rows=16)[0]
    root = tmp_path / "tree"
    front = Nginx(tmp_path, root)
    path = f"/studies/{instance.dataset.StudyInstanceUID}/metadata"
    tags = []
    try:
        for name in ("Aaaa^Aaaa", "Bbbb^Bbbb", "Aaaa^Aaaa"):
            instance.dataset.PatientName = name
            instance.dataset.save_as(instance.path)
            assert create(root, instance.path).exit_code == 0
            answer = front.get(path, JSON)
            assert name.encode() in answer.content
            tags.append(answer.headers["ETag"])
            assert front.get(path, JSON, **{"If-None-Match": tags[-1]}).status_code == 304
            assert run(root, "delete", instance.dataset.StudyInstanceUID).exit_code == 0
        assert tags[0] == tags[2] != tags[1]
    finally:
        front.stop()


def test_stores_deletions_and_retrievals_at_once_disturb_nobody(tmp_path: Path) -> None:
    study = ct_study(4, tmp_path, rows=64)
    server = Server(tmp_path / "tree", tmp_path / "log")
    address = f"{server.url}/studies"
    uid = study[0].dataset.StudyInstanceUID
    content = [instance.path.read_bytes() for instance in study]
    asks: list[Callable[[], requests.Response]] = [
        lambda: stow(address, *content),
        lambda: requests.delete(f"{address}/{uid}", timeout=60),
        lambda: requests.delete(f"{server.url}{study[0].url}", timeout=60),
        lambda: server.get(f"{study[1].url}/rendered", "image/jpeg"),
        lambda: server.get(study[1].url, "application/dicom"),
        lambda: server.get(f"/studies/{uid}/thumbnail", "image/png"),
    ]
    end = time.monotonic() + 8

    def ask(one: Callable[[], requests.Response]) -> set[int]:
        found = set()
        while time.monotonic() < end:
            with contextlib.suppress(requests.exceptions.ChunkedEncodingError):
                found.add(one().status_code)
        return found

    try:
        with ThreadPoolExecutor(len(asks)) as pool:
            stored, *others = pool.map(ask, asks)
        assert stored == {200}
        assert set().union(*others) <= {200, 204, 404}
        assert stow(address, *content).status_code == 200
        assert len(server.get(f"/studies/{uid}/metadata", JSON).json()) == 4
        assert "Traceback" not in server.log.read_text()
        for instance in study:
            assert server.get(instance.url, "application/dicom; transfer-syntax=*").content == instance.path.read_bytes()
    finally:
        stop(server.process, server.log)


def test_a_server_for_reading_alone_takes_nothing(tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    server = Server(tmp_path / "tree", tmp_path / "log", "--read-only")
    try:
        assert stow(f"{server.url}/studies", instance.path.read_bytes()).status_code == 405
        assert requests.delete(f"{server.url}/studies/1.2.3", timeout=30).status_code == 405
    finally:
        stop(server.process, server.log)


def test_nothing_is_stored_without_space(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.touch()
    instance = of_kind("ct", tmp_path)
    server = Server(tmp_path / "tree", tmp_path / "log", "--no-space-file", str(told))
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + instance.path.read_bytes() + b"\r\n--b--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    try:
        assert requests.post(f"{server.url}/studies", body, headers=headers, timeout=60).status_code == 507
        assert server.found("/studies") == []
        told.unlink()
        assert requests.post(f"{server.url}/studies", body, headers=headers, timeout=60).status_code == 200
        assert server.get(instance.url, "application/dicom").content == instance.path.read_bytes()
    finally:
        stop(server.process, server.log)
