"""STOW-RS into Orthanc: an outcome for every part, however clients write them."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from archive_service import AS_STORED, ArchiveService
from datasets import Instance, ct_study, read

TYPE = 'multipart/related; type="application/dicom"; boundary=b0und'


@pytest.fixture
def study(tmp_path: Path) -> list[Instance]:
    return ct_study(3, tmp_path, 16)


def body(
    contents: list[bytes], boundary: str = "b0und", kind: str = "application/dicom", after: str = "", end: str = "\r\n"
) -> bytes:
    """Return a body whose lines end so, with something behind each boundary."""
    mark = f"--{boundary}"
    parts = [f"{mark}{after}{end}Content-Type: {kind}{end}{end}".encode() + content + end.encode() for content in contents]
    return b"".join([*parts, f"{mark}--{end}".encode()])


def contents(study: list[Instance]) -> list[bytes]:
    return [instance.path.read_bytes() for instance in study]


def stored(archive: ArchiveService, study: list[Instance]) -> set[str]:
    """Return which of a study's instances the archive has."""
    found = archive.found(f"/studies/{study[0].dataset.StudyInstanceUID}/instances")
    return {instance["00080018"]["Value"][0] for instance in found}


def uids(study: list[Instance]) -> set[str]:
    return {instance.dataset.SOPInstanceUID for instance in study}


@pytest.mark.parametrize(
    ("how", "content_type"),
    [
        ({}, TYPE),
        ({"kind": "Application/DICOM"}, TYPE),
        ({"kind": "application/octet-stream"}, TYPE),
        ({"after": "  \t"}, TYPE),
        ({"end": "\n"}, TYPE),
        ({}, "multipart/related; boundary=b0und"),
        ({}, "multipart/related"),
        ({}, 'multipart/related; type="application/dicom"'),
        ({"boundary": "a=b"}, 'multipart/related; type="application/dicom"; boundary="a=b"'),
        ({"boundary": "a=b"}, 'multipart/related; type="application/dicom"; boundary=a=b'),
    ],
)
def test_bodies_as_clients_write_them(
    archive: ArchiveService, study: list[Instance], how: dict[str, str], content_type: str
) -> None:
    answer = archive.post(body(contents(study), **how), content_type)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["00081199"]["Value"]) == 3
    assert answer.json()["00081199"]["Value"][0]["00081190"]["Value"] == [archive.url + study[0].url]
    assert stored(archive, study) == uids(study)
    # Again, and to its study's own address.
    assert (
        archive.post(body(contents(study), **how), content_type, f"/studies/{study[0].dataset.StudyInstanceUID}").status_code == 200
    )


@pytest.mark.parametrize("content_type", ["application/dicom", "multipart/related"])
def test_a_bare_file_is_an_instance(archive: ArchiveService, study: list[Instance], content_type: str) -> None:
    answer = archive.post(study[0].path.read_bytes(), content_type)
    assert answer.status_code == 200, answer.text
    assert stored(archive, study) == uids(study[:1])


@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_a_body_that_is_cut_off_says_what_was_stored(archive: ArchiveService, study: list[Instance], end: bytes) -> None:
    whole = body(contents(study)).removesuffix(b"--b0und--\r\n").removesuffix(b"\r\n") + end
    answer = archive.post(whole, TYPE)
    assert answer.status_code == 400
    said = answer.json()
    assert [each["00081155"]["Value"][0] for each in said["00081199"]["Value"]] == [
        each.dataset.SOPInstanceUID for each in study[:2]
    ]
    assert len(said["00081198"]["Value"]) == 1
    assert "ends within a part" in answer.headers["Warning"]
    assert stored(archive, study) == uids(study[:2])


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", TYPE, 400),
        (b"", "application/dicom", 409),
        (b"--b0und--\r\n", TYPE, 400),
        (b"nonsense", TYPE, 400),
        (b"nonsense", "multipart/related", 400),
        (b"{}", "application/json", 415),
        (b"--b0und\r\nContent-Type: application/dicom+json\r\n\r\n[]\r\n--b0und--", TYPE, 415),
        (b"--b0und\r\nContent-Type: application/dicom\r\n\r\nnonsense\r\n--b0und--", TYPE, 409),
        (b"--b0und\r\n" + b"x" * 20000 + b"\r\n\r\n", TYPE, 400),
    ],
)
def test_what_is_no_instance_is_refused(archive: ArchiveService, content: bytes, content_type: str, status: int) -> None:
    answer = archive.post(content, content_type)
    assert answer.status_code == status, answer.text
    if status == 409:
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]


def test_each_instance_has_an_outcome(archive: ArchiveService, study: list[Instance], tmp_path: Path) -> None:
    [other] = ct_study(1, tmp_path, 16)
    sent = [contents(study)[0], b"nonsense", other.path.read_bytes()]
    answer = archive.post(body(sent), TYPE, f"/studies/{study[0].dataset.StudyInstanceUID}")
    assert answer.status_code == 202
    failed = [each["00081197"]["Value"][0] for each in answer.json()["00081198"]["Value"]]
    assert (len(answer.json()["00081199"]["Value"]), failed) == (1, [0xC000, 0xA900])


@pytest.mark.parametrize("uid", ["1.2.3.ABC", "1.2/series/3", "*", "1." + "2" * 70])
def test_what_no_address_names_is_refused(archive: ArchiveService, tmp_path: Path, uid: str) -> None:
    [instance] = ct_study(1, tmp_path, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance.dataset.SeriesInstanceUID = uid
        instance.dataset.save_as(instance.path)
    answer = archive.post(body([instance.path.read_bytes()]), TYPE)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]


def test_what_ends_a_parser_is_refused(archive: ArchiveService, study: list[Instance]) -> None:
    """DCMTK, and Orthanc with it, ends at a single sequence in File Meta Information; pydicom reads none without an end."""
    content = study[0].path.read_bytes()
    sequence = struct.pack("<HH2sHI", 0x0002, 0x0102, b"SQ", 0, 0xFFFFFFFF) + bytes.fromhex("feff00e000000000feffdde000000000")
    dataset = 144 + int.from_bytes(content[140:144], "little")
    cut_off = struct.pack("<HH2sHI", 0xFFFA, 0xFFFA, b"SQ", 0, 0xFFFFFFFF)
    for made in (content[:dataset] + sequence + content[dataset:], content + cut_off):
        answer = archive.post(body([made]), TYPE)
        assert answer.status_code == 409
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert archive.post(body([content]), TYPE).status_code == 200


def test_many_that_are_none_end_the_request(archive: ArchiveService, study: list[Instance]) -> None:
    answer = archive.post(body([contents(study)[0], *[b""] * 60_000]), TYPE)
    assert answer.status_code == 400
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert 100 < len(answer.json()["00081198"]["Value"]) < 110


def test_pieces_of_any_size(archive: ArchiveService, study: list[Instance]) -> None:
    whole = body(contents(study))

    def pieces(size: int) -> Iterator[bytes]:
        for start in range(0, len(whole), size):
            yield whole[start : start + size]

    for size in (7, 1000, 1 << 20):
        assert archive.post(pieces(size), TYPE).status_code == 200


def test_each_outcome_is_true_whoever_else_stores(archive: ArchiveService, tmp_path: Path) -> None:
    """Large and small ones, some of which are none, by several clients at once, one of whom breaks off."""

    def files(client: int) -> list[bytes]:
        made = []
        for number, rows in enumerate((16, 512, 8, 700, 64, 16, 900, 32)):
            directory = tmp_path / f"{client}-{number}"
            directory.mkdir()
            made += [*contents(ct_study(3, directory, rows)), b"none" * rows]
        return made

    def ask(given: list[bytes], end: int) -> tuple[int, dict[str, Any]]:
        answer = archive.post(iter([body(given)[:end]]), TYPE)
        return answer.status_code, answer.json()

    clients = [files(client) for client in range(4)]
    ends = [-1, -1, -1, sum(map(len, clients[3])) // 2]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, clients, ends))
    assert [status for status, _ in answers] == [202, 202, 202, 400]
    for given, (_, told) in zip(clients, answers, strict=True):
        by_uid = {read(content).SOPInstanceUID: content for content in given if not content.startswith(b"none")}
        taken = [item["00081190"]["Value"][0].removeprefix(archive.url) for item in told["00081199"]["Value"]]
        assert 0 < len(taken) <= 24
        for path in taken:
            assert archive.get(path, AS_STORED).content == by_uid[path.rpartition("/")[2]]
    assert [len(told["00081199"]["Value"]) for _, told in answers[:3]] == [24] * 3
    assert [len(told["00081198"]["Value"]) for _, told in answers[:3]] == [8] * 3


def test_one_address_is_one_instance_whoever_it_is_of(archive: ArchiveService, study: list[Instance], tmp_path: Path) -> None:
    """Orthanc takes the same UIDs under another patient as another instance, of which an address would tell one alone."""
    assert archive.post(body(contents(study[:2])), TYPE).status_code == 200
    for instance in study:
        instance.dataset.PatientID = "ANOTHER"
        instance.dataset.save_as(instance.path)
    answer = archive.post(body(contents(study)), TYPE)
    assert answer.status_code == 202
    assert [item["00081197"]["Value"] for item in answer.json()["00081198"]["Value"]] == [[0x0111], [0x0111]]
    assert [item["00081155"]["Value"] for item in answer.json()["00081199"]["Value"]] == [[study[2].dataset.SOPInstanceUID]]
    assert archive.post(body(contents(study[2:])), TYPE).status_code == 200
    assert stored(archive, study) == uids(study)
    retrieved = archive.get(study[0].url, AS_STORED)
    assert b"ANOTHER" not in retrieved.content


def test_a_full_disk_takes_nothing(archive: ArchiveService, study: list[Instance], tmp_path: Path) -> None:
    told = tmp_path / "no-space"
    full = archive.beside(tmp_path, ARCHIVE_DICOMWEB_NO_SPACE_FILE=str(told))
    try:
        told.write_text("/var has 12 MB free")
        assert full.post(body(contents(study)), TYPE).status_code == 507
        told.unlink()
        assert full.post(body(contents(study)), TYPE).status_code == 200
    finally:
        full.stop()


def test_a_disk_that_fills_up_says_what_was_stored(archive: ArchiveService, study: list[Instance], small_disk: Path) -> None:
    full = archive.beside(small_disk.parent, ARCHIVE_DICOMWEB_WORK_DIRECTORY=str(small_disk))
    try:
        answer = full.post(body([*contents(study), b"x" * 1_000_000]), TYPE)
        assert answer.status_code == 507, answer.text
        assert len(answer.json()["00081199"]["Value"]) == 3
        assert stored(archive, study) == uids(study)
    finally:
        full.stop()


def test_a_body_has_a_largest_size(archive: ArchiveService, study: list[Instance], tmp_path: Path) -> None:
    small = archive.beside(tmp_path, ARCHIVE_DICOMWEB_MAX_BODY_MEGABYTES="1")
    try:
        assert small.post(b"x" * 1_000_001, TYPE).status_code == 413
        big = body([*contents(study), b"x" * 1_000_000])
        answer = small.post(iter([big]), TYPE)
        assert (answer.status_code, len(answer.json()["00081199"]["Value"])) == (413, 3)
    finally:
        small.stop()
