"""QIDO-RS at every level, over one archive and over two."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from datasets import named
from orthanc_server import OrthancServer
from proxy_server import Proxy, dimse_archive
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from servers import free_port

JSON = "application/dicom+json"
NAMES = ["Adams^John", "Adams^Jane", "Brown^Ann", "Müller^Jörg", "Yamada^Tarou=山田^太郎=やまだ^たろう"]


def study(name: str, number: int, series: int = 2, instances: int = 3) -> list[Dataset]:
    """Return a study of some series."""
    made = []
    source = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    for which in range(series):
        for instance in range(instances):
            uid = f"1.2.826.0.1.3680043.8.498.{number}"
            dataset = named(deepcopy(source), uid, f"{uid}.{which + 1}")
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.PatientName, dataset.PatientID = name, f"P{number}"
            dataset.StudyDate, dataset.Modality = f"202401{number % 28 + 1:02d}", "MR" if which else "CT"
            dataset.AccessionNumber, dataset.StudyDescription = f"A{number}", "Of a test"
            dataset.SeriesNumber, dataset.InstanceNumber = which + 1, instance + 1
            made.append(dataset)
    return made


@pytest.fixture(scope="module")
def archives() -> Iterator[list[OrthancServer]]:
    """Two archives; the first study is in both, and the last in the second alone."""
    with tempfile.TemporaryDirectory() as directory:
        made = [dimse_archive(Path(directory) / aet, aet, free_port()) for aet in ("FIRST", "SECOND")]
        for number, name in enumerate(NAMES):
            datasets = study(name, number)
            chosen = made if number == 0 else made[1:] if number == len(NAMES) - 1 else made[:1]
            for archive in chosen:
                archive.send(*datasets)
        yield made
        for archive in made:
            archive.stop()


@pytest.fixture(scope="module")
def proxy(archives: list[OrthancServer]) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory() as directory:
        made = Proxy(Path(directory), [(archive.aet, archive.dicom_port) for archive in archives])
        yield made
        made.stop()


def found(proxy: Proxy, path: str, tag: str = "0020000D") -> list[Any]:
    answer = proxy.get(path, JSON)
    if answer.status_code == 204:
        return []
    assert answer.status_code == 200, answer.text
    return [row[tag]["Value"][0] for row in answer.json()]


def names(proxy: Proxy, query: str) -> set[str]:
    return {name["Alphabetic"] for name in found(proxy, f"/studies?{query}", "00100010")}


def test_all_peers_are_one_archive(proxy: Proxy) -> None:
    every = found(proxy, "/studies")
    assert len(every) == len(set(every)) == len(NAMES)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("PatientName=Adams", {"Adams^John", "Adams^Jane"}),
        ("00100010=Adams^J*", {"Adams^John", "Adams^Jane"}),
        ("PatientName=*n*&PatientID=P2", {"Brown^Ann"}),
        ("PatientName=Adams^J?ne", {"Adams^Jane"}),
        ("PatientID=P3", {"Müller^Jörg"}),
        ("PatientName=M%C3%BCller", {"Müller^Jörg"}),
        ("StudyDate=20240101-20240102", {"Adams^John", "Adams^Jane"}),
        ("StudyDate=20240103", {"Brown^Ann"}),
        ("StudyDate=20240104-", {"Müller^Jörg", "Yamada^Tarou"}),
        ("StudyDate=-20240101", {"Adams^John"}),
        ("AccessionNumber=A2", {"Brown^Ann"}),
        ("StudyInstanceUID=1.2.826.0.1.3680043.8.498.1,1.2.826.0.1.3680043.8.498.2", {"Adams^Jane", "Brown^Ann"}),
        ("StudyInstanceUID=1.2.826.0.1.3680043.8.498.1%5C1.2.826.0.1.3680043.8.498.4", {"Adams^Jane", "Yamada^Tarou"}),
        ("ModalitiesInStudy=MR&PatientID=P1", {"Adams^Jane"}),
        ("PatientName=Nobody", set()),
    ],
)
def test_studies_are_found(proxy: Proxy, query: str, expected: set[str]) -> None:
    assert names(proxy, query) == expected


def test_a_name_comes_in_all_its_characters(proxy: Proxy) -> None:
    [name] = found(proxy, "/studies?PatientID=P4", "00100010")
    assert name == {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}


def test_every_level_and_address(proxy: Proxy) -> None:
    uid = "1.2.826.0.1.3680043.8.498.2"
    assert len(found(proxy, f"/studies/{uid}/series")) == 2
    assert len(found(proxy, f"/studies/{uid}/instances")) == 6
    assert len(found(proxy, f"/studies/{uid}/series/{uid}.1/instances")) == 3
    assert found(proxy, f"/studies/{uid}/series?Modality=CT", "0020000E") == [f"{uid}.1"]
    assert len(found(proxy, "/series")) == 2 * len(NAMES)
    assert len(found(proxy, "/series?PatientName=Adams&Modality=MR")) == 2
    assert len(found(proxy, "/instances")) == 6 * len(NAMES)
    assert found(proxy, f"/instances?SeriesInstanceUID={uid}.2&InstanceNumber=3", "0020000E") == [f"{uid}.2"]
    assert found(proxy, "/studies/1.2.3/series") == []


def test_results_have_what_the_standard_wants(proxy: Proxy) -> None:
    uid = "1.2.826.0.1.3680043.8.498.2"
    [row] = proxy.get(f"/studies?StudyInstanceUID={uid}").json()
    assert row["00201206"]["Value"] == [2]
    assert row["00201208"]["Value"] == [6]
    assert row["00081190"]["Value"] == [f"{proxy.url}/studies/{uid}"]
    assert row["00080005"]["Value"] == ["ISO_IR 192"]
    assert "00080052" not in row
    series = proxy.get(f"/studies/{uid}/series").json()
    assert {each["00080060"]["Value"][0] for each in series} == {"CT", "MR"}
    assert {each["00081190"]["Value"][0] for each in series} == {f"{proxy.url}/studies/{uid}/series/{uid}.{n}" for n in (1, 2)}
    # From an address without the study, a result says which it is of.
    assert {name["Alphabetic"] for name in found(proxy, "/series?PatientID=P2", "00100010")} == {"Brown^Ann"}


def test_further_attributes_are_included(proxy: Proxy) -> None:
    path = "/instances?PatientID=P2&limit=1"
    assert "00080008" not in proxy.get(path).json()[0]
    assert "00080008" in proxy.get(f"{path}&includefield=ImageType,00180050").json()[0]
    assert "00080008" in proxy.get(f"{path}&includefield=all").json()[0]


def test_pages(proxy: Proxy) -> None:
    every = found(proxy, "/instances", "00080018")
    pages = [found(proxy, f"/instances?limit=7&offset={start}", "00080018") for start in range(0, 35, 7)]
    assert [uid for page in pages for uid in page] == every
    assert found(proxy, "/studies?limit=0") == []
    assert found(proxy, "/studies?offset=100") == []


def test_xml(proxy: Proxy) -> None:
    answer = proxy.get("/studies?PatientID=P4", 'multipart/related; type="application/dicom+xml"')
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"')
    assert "山田" in answer.content.decode()


def test_fuzzy_matching_is_said_not_to_be_done(proxy: Proxy) -> None:
    answer = proxy.get("/studies?PatientName=Adams&fuzzymatching=true")
    assert "fuzzymatching parameter is not supported" in answer.headers["warning"]
    assert "warning" not in proxy.get("/studies?PatientName=Adams&fuzzymatching=false").headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies?limit=-1", 400),
        ("/studies?limit=x", 400),
        ("/studies?offset=1e3", 400),
        ("/studies?limit=1&limit=2", 400),
        ("/studies?Nonsense=1", 400),
        ("/studies?fuzzymatching=maybe", 400),
        ("/studies?PixelData=1", 400),
        ("/studies?NumberOfStudyRelatedSeries=many", 400),
        ("/studies/1.2/series?StudyInstanceUID=1.3", 400),
        ("/studies?PatientName=%FF", 400),
        ("/studies?PatientID=" + "1" * 20_000, 414),
        ("/studies?PatientID=" + "1" * 5000, 400),
    ],
)
def test_bad_searches_are_told(proxy: Proxy, path: str, status: int) -> None:
    answer = proxy.get(path, JSON)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert proxy.get("/studies?limit=0", "text/html").status_code == 406


def test_a_query_of_64_kb_is_refused(proxy: Proxy) -> None:
    assert proxy.get("/studies?PatientID=" + "1" * 65536, JSON).status_code == 400
    assert found(proxy, "/studies")


def test_a_peer_that_is_down_is_told(archives: list[OrthancServer], tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, [(archives[0].aet, archives[0].dicom_port), ("NOBODY", free_port())])
    answer = proxy.get("/studies", JSON)
    assert len(answer.json()) == len(NAMES) - 1
    assert "NOBODY at 127.0.0.1" in answer.headers["warning"]
    health = proxy.get("/health")
    assert health.status_code == 503
    assert "NOBODY" in health.json()["problems"][0]
    status = proxy.get("/status").json()
    assert [bool(peer["problem"]) for peer in status["peers"]] == [False, True]
    assert 'dicomweb_proxy_peer_up{peer="NOBODY"} 0.0' in proxy.get("/metrics").text
    proxy.stop()


def test_each_study_is_fetched_from_where_it_is(proxy: Proxy) -> None:
    for number in range(len(NAMES)):
        metadata = proxy.get(f"/studies/1.2.826.0.1.3680043.8.498.{number}/metadata").json()
        assert len(metadata) == 6
        assert {row["00100020"]["Value"][0] for row in metadata} == {f"P{number}"}


def test_short_names_and_wildcards_are_settings(archives: list[OrthancServer], tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, [(archives[0].aet, archives[0].dicom_port)], qidoMinChars=3, qidoAppendWildcard=False)
    assert found(proxy, "/studies?PatientName=Ad*") == []
    assert names(proxy, "PatientName=Adams^John") == {"Adams^John"}
    assert names(proxy, "PatientName=Adams") == set()
    proxy.stop()
