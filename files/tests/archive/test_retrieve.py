"""WADO-RS out of Orthanc's storage."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from archive_dicomweb.kept import Kept, decompressed
from archive_service import AS_STORED, JSON, ArchiveService, indexed_orthanc
from datasets import KINDS, Instance, ct_study, read, same
from dicomweb_client.api import DICOMwebClient
from odd_pixels import FRAMES, ODD, frames_there
from orthanc_server import OrthancServer
from proxy_server import parts_of
from pydicom import dcmread
from servers import Postgres

MANY_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_comes_as_it_was_stored(archive: ArchiveService, stored: dict[str, Instance], kind: str) -> None:
    instance = stored[kind]
    content = instance.path.read_bytes()
    assert archive.get(instance.url, AS_STORED).content == content
    assert [part for _, part in parts_of(archive.get(instance.url, MANY_AS_STORED))] == [content]
    [model] = archive.found(f"{instance.url}/metadata")
    assert model["00080018"]["Value"] == [instance.dataset.SOPInstanceUID]
    for attribute in model.values():
        if "BulkDataURI" in attribute:
            assert attribute["BulkDataURI"].startswith(archive.url + instance.url)
            assert requests.get(attribute["BulkDataURI"], timeout=60).status_code == 200


def test_head_says_what_get_would(archive: ArchiveService, stored: dict[str, Instance]) -> None:
    for path in ("", "/metadata", "/frames/1", "/rendered"):
        url, headers = f"{archive.url}{stored['ct'].url}{path}", {"Accept": "*/*"}
        by_get, by_head = (requests.request(method, url, headers=headers, timeout=60) for method in ("GET", "HEAD"))
        assert (by_head.status_code, by_head.content) == (200, b"")
        # The boundary of each answer is its own.
        assert by_head.headers["Content-Type"].partition("boundary")[0] == by_get.headers["Content-Type"].partition("boundary")[0]


def test_a_client_that_nobody_here_wrote(archive: ArchiveService, stored: dict[str, Instance]) -> None:
    client = DICOMwebClient(archive.url)
    for kind in ("ct", "mr-jpeg-2000", "rt-dose-multi-frame"):
        data = stored[kind].dataset
        uids = (data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID)
        assert len(client.retrieve_instance_frames(*uids, frame_numbers=[1])[0]) > 0
        assert same(client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),)), data)
        assert len(client.retrieve_study_metadata(uids[0])) == 1
        assert client.retrieve_instance_rendered(*uids)


@pytest.mark.parametrize("by_orthanc", [True, False])
def test_what_was_stored_last_is_found_and_what_was_deleted_is_gone(
    archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path, by_orthanc: bool
) -> None:
    study = ct_study(3, tmp_path, 16)
    url = f"/studies/{study[0].dataset.StudyInstanceUID}"
    for count, instance in enumerate(study, 1):
        answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
        assert len(parts_of(archive.get(url, MANY_AS_STORED))) == count
    if by_orthanc:
        orthanc.session.delete(f"{orthanc.url}/instances/{answer.json()['ID']}", timeout=60).raise_for_status()
    else:
        assert requests.delete(f"{archive.url}{study[2].url}", timeout=60).status_code == 204
        assert requests.delete(f"{archive.url}{study[2].url}", timeout=60).status_code == 404
    assert archive.get(study[2].url, AS_STORED).status_code == 404
    assert len(archive.found(f"{url}/instances")) == len(parts_of(archive.get(url, MANY_AS_STORED))) == 2
    # The same UID with other content, after Orthanc has taken it in place of the first.
    study[0].dataset.PatientComments = "corrected"
    study[0].dataset.save_as(study[0].path)
    orthanc.session.post(f"{orthanc.url}/instances", data=study[0].path.read_bytes(), timeout=60).raise_for_status()
    assert archive.get(study[0].url, AS_STORED).content == study[0].path.read_bytes()
    assert "corrected" in str(archive.found(f"{study[0].url}/metadata"))
    assert requests.delete(f"{archive.url}{url}", timeout=60).status_code == 204
    assert not archive.found(f"/studies?StudyInstanceUID={study[0].dataset.StudyInstanceUID}")


def test_metadata_are_made_once(archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path) -> None:
    study = ct_study(120, tmp_path, 16)
    for instance in study[1:]:
        orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    url = f"/studies/{study[0].dataset.StudyInstanceUID}/metadata"
    kept = tmp_path / "kept"
    kept.mkdir()
    service = archive.beside(kept)
    try:
        answers = [service.get(url, JSON) for _ in range(2)]
        plain = requests.get(f"{service.url}{url}", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert len(list((kept / "metadata").iterdir())) == 1
        assert [answer.headers.get("Content-Encoding") for answer in (*answers, plain)] == ["gzip", "gzip", None]
        assert len(answers[0].json()) == 119
        assert answers[0].content == answers[1].content == plain.content
        [entry] = (kept / "metadata").iterdir()
        assert int(answers[1].headers.get("Content-Length", entry.stat().st_size)) * 20 < len(plain.content)
        # Under another address, and after a change, they are others.
        elsewhere = requests.get(f"{service.url}{url}", headers={"X-Forwarded-Host": "pacs.example"}, timeout=60)
        assert "pacs.example" in elsewhere.text
        assert "pacs.example" not in plain.text
        orthanc.session.post(f"{orthanc.url}/instances", data=study[0].path.read_bytes(), timeout=60).raise_for_status()
        assert len(service.found(url)) == 120
        assert requests.delete(f"{service.url}{study[3].url}", timeout=60).status_code == 204
        assert len(service.found(url)) == 119
        # One is corrected under its UID.
        corrected = study[5].dataset
        corrected.SeriesDescription = "corrected"
        corrected.save_as(tmp_path / "corrected.dcm")
        assert service.post((tmp_path / "corrected.dcm").read_bytes(), "application/dicom").status_code == 200
        described = [instance.get("0008103E", {}).get("Value") for instance in service.found(url)]
        assert (len(described), described.count(["corrected"])) == (119, 1)
    finally:
        service.stop()


def test_metadata_that_were_not_sent_whole_are_not_kept(archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path) -> None:
    study = ct_study(160, tmp_path, 16)
    for instance in study:
        answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
    uuid = orthanc.get(f"/instances/{answer.json()['ID']}")["FileUuid"]
    lost = orthanc.directory / uuid[:2] / uuid[2:4] / uuid
    content = lost.read_bytes()
    lost.unlink()
    url = f"/studies/{study[0].dataset.StudyInstanceUID}/metadata"
    kept = tmp_path / "kept"
    kept.mkdir()
    service = archive.beside(kept)
    try:
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
            service.get(url, JSON)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(f"{service.url}{url}", headers={"Accept-Encoding": "identity"}, timeout=60)
        lost.write_bytes(content)
        requests.get(f"{service.url}{url}", stream=True, timeout=60).close()
        assert requests.head(f"{service.url}{url}", timeout=60).status_code == 200
        assert len(service.found(url)) == 160
        assert len(list((kept / "metadata").iterdir())) == 1
    finally:
        service.stop()


def test_kept_metadata_have_a_limit(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 100_000)
    names = [kept.name(str(number), "") for number in range(5)]
    for number, name in enumerate(names):
        entry = kept.new(name)
        assert entry
        entry.add(os.urandom(30_000))
        entry.keep()
        entry.close()
        # The clock of files doesn't tell apart what comes so soon.
        os.utime(tmp_path / name, (number, number))
        if number == 2:
            with kept.find(names[0]) or pytest.fail("it isn't kept") as file:
                assert len(b"".join(decompressed(file, 1000))) == 30_000
    # The first was asked for after the third had come.
    assert [bool(kept.find(name)) for name in names] == [True, False, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
    assert Kept(tmp_path, 0).new("none") is None
    assert Kept(tmp_path / "none" / "file", 10).find("none") is None
    (tmp_path / "a file").write_text("")
    assert Kept(tmp_path / "a file" / "below", 10).new("none") is None


def test_a_file_that_is_lost_or_cut_off_costs_one_answer(archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path) -> None:
    study = ct_study(3, tmp_path, 64)
    files = []
    for instance in study:
        answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
        files.append(orthanc.get(f"/instances/{answer.json()['ID']}")["FileUuid"])
    lost, cut, whole = (orthanc.directory / uuid[:2] / uuid[2:4] / uuid for uuid in files)
    assert whole.exists()
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:4000])
    assert archive.get(study[0].url, AS_STORED).status_code == 502
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        archive.get(study[1].url, AS_STORED)
    assert archive.get(study[2].url, AS_STORED).content == study[2].path.read_bytes()
    assert archive.get(f"/studies/{study[0].dataset.StudyInstanceUID}", MANY_AS_STORED).status_code == 502
    assert archive.get(study[0].url.rpartition("/")[0].removesuffix("/instances") + "/instances", JSON).status_code == 200


def test_what_is_replaced_meanwhile_comes_as_the_one_or_the_other(
    archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path
) -> None:
    [instance] = ct_study(1, tmp_path, 64)
    content = instance.path.read_bytes()
    orthanc.session.post(f"{orthanc.url}/instances", data=content, timeout=60).raise_for_status()
    end = time.monotonic() + 6

    def ask(path: str, accept: str) -> set[int]:
        found = set()
        while time.monotonic() < end:
            found.add(archive.get(f"{instance.url}{path}", accept).status_code)
        return found

    asked = [("/metadata", JSON), ("", AS_STORED), ("/frames/1", "*/*"), ("/rendered", "image/jpeg")]
    with ThreadPoolExecutor(len(asked)) as pool:
        running = [pool.submit(ask, *each) for each in asked]
        while time.monotonic() < end:
            orthanc.session.post(f"{orthanc.url}/instances", data=content, timeout=60).raise_for_status()
        assert [each.result() for each in running] == [{200}] * len(asked)


def test_one_that_cannot_be_read_costs_a_study_its_own_attributes(
    archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path
) -> None:
    """Orthanc stores a sequence without an end, of which pydicom reads nothing."""
    good, bad = ct_study(2, tmp_path, 64)
    bad.path.write_bytes(bad.path.read_bytes() + struct.pack("<HH2sHI", 0xFFFA, 0xFFFA, b"SQ", 0, 0xFFFFFFFF))
    for instance in (good, bad):
        orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    study = f"/studies/{good.dataset.StudyInstanceUID}"
    models = {model["00080018"]["Value"][0]: model for model in archive.get(f"{study}/metadata", JSON).json()}
    assert models[good.dataset.SOPInstanceUID]["00280010"]["Value"] == [64]
    assert models[bad.dataset.SOPInstanceUID].keys() == {"00080016", "00080018", "0020000D", "0020000E"}
    answer = archive.get(f"{study}/metadata", 'multipart/related; type="application/dicom+xml"')
    assert answer.content.count(b'keyword="SOPInstanceUID"') == 2
    assert archive.get(f"{study}/bulkdata", 'multipart/related; type="application/octet-stream"').status_code == 200
    found = archive.get(f"{study}/instances?includefield=all", JSON)
    assert len(found.json()) == 2
    assert "can't be read" in found.headers["Warning"]
    assert archive.get(f"{bad.url}/metadata", JSON).status_code == 502


def test_what_orthanc_compresses_or_keeps_elsewhere_comes_by_orthanc(postgres: Postgres, tmp_path: Path) -> None:
    directory, work = tmp_path / "orthanc", tmp_path / "service"
    directory.mkdir()
    work.mkdir()
    user = {"ARCHIVE_DICOMWEB_ORTHANC_USER": "site", "ARCHIVE_DICOMWEB_ORTHANC_PASSWORD": "a pass:word"}
    asking = {"AuthenticationEnabled": True, "RegisteredUsers": {"site": "a pass:word"}}
    orthanc = indexed_orthanc(directory, postgres, "compressed", StorageCompression=True, OverwriteInstances=False, **asking)
    service = ArchiveService(work, orthanc, postgres.uri("compressed"), **user)
    try:
        study = ct_study(2, tmp_path, 64)
        for instance in study:
            assert service.post(instance.path.read_bytes(), "application/dicom").status_code == 200
        url = f"/studies/{study[0].dataset.StudyInstanceUID}"
        parts = [part for _, part in parts_of(service.get(url, MANY_AS_STORED))]
        assert parts == [instance.path.read_bytes() for instance in study]
        # What was fetched first is fetched again where it is asked for again.
        assert len(service.found(f"{url}/metadata")) == 2
        assert service.get(f"{url}/rendered", "image/png").status_code == 200
        assert service.found(f"{url}/instances?Rows=64")
        assert read(service.get(study[0].url, "application/dicom").content).Rows == 64
        # Again, and another one under its UID, which isn't stored.
        assert service.post(study[0].path.read_bytes(), "application/dicom").status_code == 200
        study[0].dataset.PatientComments = "another"
        study[0].dataset.save_as(tmp_path / "another.dcm")
        answer = service.post((tmp_path / "another.dcm").read_bytes(), "application/dicom")
        assert answer.status_code == 409
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0111]
        assert service.get(study[0].url, AS_STORED).content == study[0].path.read_bytes()
        assert not list((work / "work").iterdir())
    finally:
        service.stop()
        orthanc.stop()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that no other test's Orthanc is connected to: an Orthanc of Debian 12 doesn't get over its restart."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        made = Postgres(Path(directory))
        yield made
        made.stop()


def test_faults_of_what_it_stands_on(own_postgres: Postgres, tmp_path: Path) -> None:
    directory, work = tmp_path / "orthanc", tmp_path / "service"
    directory.mkdir()
    work.mkdir()
    postgres = own_postgres
    orthanc = indexed_orthanc(directory, postgres, "faults")
    service = ArchiveService(work, orthanc, postgres.uri("faults"))
    try:
        [instance] = ct_study(1, tmp_path, 64)
        orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
        assert service.health().status_code == 200
        orthanc.kill()
        # What is stored is served without it.
        assert service.get(instance.url, AS_STORED).content == instance.path.read_bytes()
        assert service.health().status_code == 503
        answer = service.post(instance.path.read_bytes(), "application/dicom")
        assert (answer.status_code, answer.json()["00081198"]["Value"][0]["00081197"]["Value"]) == (503, [0xA700])
        assert int(answer.headers["Retry-After"]) > 0
        assert "can't be reached" in answer.headers["Warning"]
        orthanc.start()
        assert service.post(instance.path.read_bytes(), "application/dicom").status_code == 200
        # The connection that was kept is none any more.
        orthanc.stop()
        orthanc.start()
        assert service.post(instance.path.read_bytes(), "application/dicom").status_code == 200
        postgres.stop()
        postgres.start()
        assert service.get(instance.url, AS_STORED).content == instance.path.read_bytes()
        assert service.found("/studies")
    finally:
        service.stop()
        orthanc.stop()


def test_it_forgets_what_it_was_at_when_it_was_killed(orthanc: OrthancServer, postgres: Postgres, tmp_path: Path) -> None:
    """And nothing else, should the directory be another's."""
    work = tmp_path / "work"
    (work / ("a" * 32)).mkdir(parents=True)
    (work / ("b" * 32)).write_bytes(b"half")
    (work / "kept").write_bytes(b"another's")
    ArchiveService(tmp_path, orthanc, postgres.uri("archive")).stop()
    assert [path.name for path in work.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ODD)
def test_frames_and_values_that_are_there_are_retrieved(
    archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path, name: str
) -> None:
    make, count = ODD[name]
    instance = make(tmp_path)
    orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    numbers = ",".join(map(str, range(1, count + 1)))
    found = parts_of(archive.get(f"{instance.url}/frames/{numbers}", FRAMES))
    assert [content for _, content in found] == frames_there(instance, count)
    beyond = archive.get(f"{instance.url}/frames/{count + 1}", FRAMES)
    assert beyond.status_code == (404 if count == instance.dataset.NumberOfFrames else 502)
    value = archive.get(f"{instance.url}/bulkdata/7FE00010", "application/octet-stream")
    assert value.content == dcmread(instance.path).PixelData
    assert value.headers["Content-Length"] == str(len(value.content))
