"""QIDO-RS over Orthanc's index."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
import requests
from archive_dicomweb.values import misread
from archive_service import JSON, ArchiveService
from datasets import Instance, ct_study
from dicomweb.dataset import element
from orthanc_server import OrthancServer
from pydicom.dataset import Dataset
from servers import Postgres

# Who is in the archive besides others: the attribute that a search is for, as the instances have it.
PEOPLE = {
    "wang": {"PatientName": "Wang^XiaoDong=王^小东", "PatientID": "W1"},
    "yamada": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "PatientID": "Y1"},
    "guseva": {"PatientName": "Гусева^Жанна", "PatientID": "G1"},
    "äb": {"PatientName": "Umlaut", "PatientID": "ÄB1"},
    "xb": {"PatientName": "Other", "PatientID": "XB1"},
    "plus": {"PatientName": "Plus", "PatientID": "P+6"},
    "px": {"PatientName": "Letter", "PatientID": "PX6"},
    "blank": {"PatientName": "Blank^Padded ", "PatientID": "77654033"},
    "star": {"PatientName": "Star^Name", "PatientID": "100%_A"},
    "doe": {"PatientName": "DOE^Jane", "PatientID": "D1", "AccessionNumber": "acc7", "StudyDate": "20260215"},
    "do": {"PatientName": "Do^E", "PatientID": "d1", "StudyDate": "20260301"},
}


@pytest.fixture(scope="module")
def people(orthanc: OrthancServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    made = {}
    for name, attributes in PEOPLE.items():
        [made[name]] = ct_study(1, tmp_path_factory.mktemp(name), 16, SpecificCharacterSet="ISO_IR 192", **attributes)
        orthanc.session.post(f"{orthanc.url}/instances", data=made[name].path.read_bytes(), timeout=60).raise_for_status()
    return made


def names_of(archive: ArchiveService, people: dict[str, Instance], query: str) -> set[str]:
    """Return who a search finds."""
    by_uid = {instance.dataset.StudyInstanceUID: name for name, instance in people.items()}
    uids = [study["0020000D"]["Value"][0] for study in archive.found(f"/studies?{query}")]
    return {by_uid[uid] for uid in uids if uid in by_uid}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("PatientName", "王^小东", {"wang"}),
        ("PatientName", "王*", {"wang"}),
        ("PatientName", "=王*", {"wang"}),
        ("PatientName", "山田^太郎", {"yamada"}),
        ("PatientName", "Гусева^Жанна", {"guseva"}),
        ("PatientName", "гусева*", {"guseva"}),
        ("PatientName", "doe^jane", {"doe"}),
        ("PatientName", "DO?^*", {"doe"}),
        ("PatientName", "Do*", {"doe", "do"}),
        ("PatientName", "Blank^Padded", {"blank"}),
        ("PatientID", "ÄB1", {"äb"}),
        ("PatientID", "?B1", {"äb", "xb"}),
        ("PatientID", "P+6", {"plus"}),
        ("PatientID", "77654033 ", {"blank"}),
        ("PatientID", "100%_A", {"star"}),
        ("PatientID", "100%*", {"star"}),
        ("PatientID", "1__%_A", set()),
        # A patient's identifier is as it is written (PS3.4 C.2.2.2.1).
        ("PatientID", "D1", {"doe"}),
        ("PatientID", "d1", {"do"}),
        ("00080050", "acc7", {"doe"}),
        ("AccessionNumber", "ACC7", set()),
        ("StudyDate", "20260215", {"doe"}),
        ("StudyDate", "20260201-20260228", {"doe"}),
        ("StudyDate", "20260216-", {"do"}),
        ("StudyDate", "202602-202603", {"doe", "do"}),
        ("PatientName", "' OR 1=1 --", set()),
        ("PatientName", "%", set()),
    ],
)
def test_what_is_asked_for_is_found_and_nobody_else(
    archive: ArchiveService, people: dict[str, Instance], key: str, value: str, expected: set[str]
) -> None:
    assert names_of(archive, people, urlencode({key: value})) == expected


def test_blanks_around_a_uid_say_nothing(archive: ArchiveService, people: dict[str, Instance]) -> None:
    uid = people["doe"].dataset.StudyInstanceUID
    assert names_of(archive, people, f"StudyInstanceUID={uid}%20") == {"doe"}
    listed = f"{uid},{people['do'].dataset.StudyInstanceUID}"
    assert names_of(archive, people, f"StudyInstanceUID={listed}") == {"doe", "do"}
    assert names_of(archive, people, f"StudyInstanceUID={quote(listed.replace(',', chr(92)))}") == {"doe", "do"}


def test_fuzzy_matching_goes_by_words(archive: ArchiveService, people: dict[str, Instance]) -> None:
    assert names_of(archive, people, "PatientName=jan%20doe&fuzzymatching=true") == {"doe"}


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "StudyDate=yesterday-", "nonsense=1", "patientname=Doe*", "includefield=all,PatientName"]
)
def test_what_is_wrong_is_named(archive: ArchiveService, query: str) -> None:
    answer = archive.get(f"/studies?{query}", JSON)
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["message"]


def test_pages_have_everything_once(archive: ArchiveService, people: dict[str, Instance]) -> None:
    everything = [study["0020000D"]["Value"][0] for study in archive.found("/studies")]
    assert len(everything) == len(set(everything)) >= len(people)
    assert [study["0020000D"]["Value"][0] for study in archive.found("/studies?offset=1")] == everything[1:]
    pages = [archive.found(f"/studies?limit=4&offset={at}") for at in range(0, len(everything), 4)]
    assert [study["0020000D"]["Value"][0] for page in pages for study in page] == everything
    assert archive.get("/studies?limit=0").status_code == 204


@pytest.fixture(scope="module")
def study(orthanc: OrthancServer, tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Two series: one of 3 CT, and one of 2 that say another modality."""
    made = ct_study(
        3, tmp_path_factory.mktemp("ct"), 16, InstitutionName="Lab", StudyDescription="Both", ManufacturerModelName="M1"
    )
    others = ct_study(2, tmp_path_factory.mktemp("mr"), 16, Modality="MR", BodyPartExamined="HEAD")
    for instance in others:
        instance.dataset.StudyInstanceUID = made[0].dataset.StudyInstanceUID
        instance.dataset.PatientID = made[0].dataset.PatientID
        instance.dataset.save_as(instance.path)
    for instance in [*made, *others]:
        orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    return [*made, *others]


def test_each_level_has_what_it_must_have(archive: ArchiveService, study: list[Instance]) -> None:
    uid = study[0].dataset.StudyInstanceUID
    [found] = archive.found(f"/studies?StudyInstanceUID={uid}&includefield=SOPClassesInStudy")
    assert found["00080061"]["Value"] == ["CT", "MR"]
    assert (found["00201206"]["Value"], found["00201208"]["Value"]) == ([2], [5])
    assert found["00080062"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    assert found["00081190"]["Value"] == [f"{archive.url}/studies/{uid}"]
    series = archive.found(f"/studies/{uid}/series")
    assert [(each["00080060"]["Value"], each["00201209"]["Value"]) for each in series] == [(["CT"], [3]), (["MR"], [2])]
    instances = archive.found(f"/studies/{uid}/instances")
    assert [each["00080018"]["Value"] for each in instances] == [[each.dataset.SOPInstanceUID] for each in study]
    first = instances[0]
    assert first["00080016"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    assert (first["00280010"]["Value"], first["00280100"]["Value"], first["00080060"]["Value"]) == ([16], [16], ["CT"])
    assert first["00081190"]["Value"] == [archive.url + study[0].url]
    of_series = archive.found(f"/studies/{uid}/series/{study[4].dataset.SeriesInstanceUID}/instances")
    assert [each["00080018"]["Value"][0] for each in of_series] == [each.dataset.SOPInstanceUID for each in study[3:]]
    [one] = archive.found(f"/instances?SOPInstanceUID={study[4].dataset.SOPInstanceUID}")
    assert one["0020000E"]["Value"] == [study[4].dataset.SeriesInstanceUID]


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/studies?ModalitiesInStudy=MR&StudyDescription=Both", 1),
        ("/studies?ModalitiesInStudy=U?&StudyDescription=Both", 0),
        ("/studies?InstitutionName=Lab&StudyDescription=Bo*", 1),
        ("/series?Modality=MR&StudyDescription=Both", 1),
        ("/series?BodyPartExamined=HE*&StudyInstanceUID={uid}", 1),
        ("/instances?InstanceNumber=2&StudyInstanceUID={uid}", 2),
        ("/studies/{uid}/instances?Modality=MR", 2),
        # What the index lacks is in the files.
        ("/series?ManufacturerModelName=M1&StudyInstanceUID={uid}", 1),
        ("/instances?Rows=16&StudyInstanceUID={uid}", 5),
        ("/instances?Rows=17&StudyInstanceUID={uid}", 0),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=1&StudyInstanceUID={uid}", 0),
    ],
)
def test_keys_of_every_level(archive: ArchiveService, study: list[Instance], path: str, count: int) -> None:
    assert len(archive.found(path.format(uid=study[0].dataset.StudyInstanceUID))) == count


def test_all_fields_are_more_than_those_of_a_level(archive: ArchiveService, study: list[Instance]) -> None:
    uid = study[0].dataset.StudyInstanceUID
    few, many = archive.found(f"/studies/{uid}/series")[0], archive.found(f"/studies/{uid}/series?includefield=all")[0]
    assert few.keys() < many.keys()
    assert many["00081090"]["Value"] == ["M1"]
    assert archive.found(f"/studies/{uid}/series?includefield=ManufacturerModelName")[0]["00081090"]["Value"] == ["M1"]


def test_one_too_many_is_warned_of(orthanc: OrthancServer, postgres: Postgres, tmp_path: Path, people: dict[str, Instance]) -> None:
    few = ArchiveService(tmp_path, orthanc, postgres.uri("archive"), ARCHIVE_DICOMWEB_MAX_RESULTS="3")
    try:
        answer = few.get("/studies", JSON)
        assert (len(answer.json()), answer.headers["Warning"][:3]) == (3, "299")
        for query in ("limit=2", "limit=3", f"PatientID={PEOPLE['doe']['PatientID']}"):
            assert "Warning" not in few.get(f"/studies?{query}", JSON).headers
    finally:
        few.stop()


def test_a_list_of_instances_is_kept_until_it_changes(archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path) -> None:
    first, second, third = ct_study(3, tmp_path, 16)
    data = first.dataset
    series = f"/studies/{data.StudyInstanceUID}/series/{data.SeriesInstanceUID}/instances"

    def store(instance: Instance) -> str:
        answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
        return str(answer.json()["ID"])

    def listed(path: str) -> list[str]:
        return [each["00080018"]["Value"][0] for each in archive.found(path)]

    store(first)
    kept = store(second)
    for path in (f"/studies/{data.StudyInstanceUID}/instances", series):
        expected = [first.dataset.SOPInstanceUID, second.dataset.SOPInstanceUID]
        plain = [archive.found(path) for _ in range(2)]
        assert plain[0] == plain[1] and listed(path) == expected
        rows = [archive.found(f"{path}?includefield={field}") for field in ("00081030", "SliceLocation", "all", "SliceLocation")]
        assert rows[1] == rows[3] and len({json.dumps(each) for each in (plain[0], *rows)}) >= 3
        assert archive.get(path, JSON, headers={"Accept-Encoding": "identity"}).json() == plain[0]
        other = archive.get(path, JSON, headers={"X-Forwarded-Host": "elsewhere.example"}).json()
        assert other[0]["00081190"]["Value"][0].startswith("http://elsewhere.example/")
        assert listed(f"{path}?limit=1") == expected[:1]
        assert archive.get(path, "application/dicom+xml").headers["Content-Type"].startswith("multipart/related")
    store(third)
    assert len(listed(series)) == 3
    orthanc.session.delete(f"{orthanc.url}/instances/{kept}", timeout=60).raise_for_status()
    assert listed(series) == [first.dataset.SOPInstanceUID, third.dataset.SOPInstanceUID]


def test_with_an_index_of_another_version_orthancs_plugin_answers(
    orthanc: OrthancServer, stored: dict[str, Instance], postgres: Postgres, tmp_path: Path
) -> None:
    uri = postgres.make_database("another")
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE globalproperties (property integer, value text)")
        connection.execute("INSERT INTO globalproperties VALUES (1, '7')")
    service = ArchiveService(tmp_path, orthanc, uri)
    try:
        instance = stored["ct"]
        data = instance.dataset
        [found] = service.found(f"/studies?StudyInstanceUID={data.StudyInstanceUID}")
        assert found["00100020"]["Value"] == [data.PatientID]
        [model] = service.found(f"{instance.url}/metadata")
        assert model["00080018"]["Value"] == [data.SOPInstanceUID]
        for kind in (f"{instance.url}/frames/1", instance.url, "/studies?limit=1"):
            answer = service.get(kind, "multipart/related" if "/instances/" in kind else JSON)
            assert answer.status_code == 200 and "version 7" in answer.headers["Warning"]
        uids = f"studyUID={data.StudyInstanceUID}&seriesUID={data.SeriesInstanceUID}&objectUID={data.SOPInstanceUID}"
        uri = f"{service.url.removesuffix('/dicom-web')}/wado?requestType=WADO&{uids}&contentType=application/dicom"
        assert requests.get(uri, timeout=60).content == instance.path.read_bytes()
        # What is stored needs no index.
        assert service.post(instance.path.read_bytes(), "application/dicom").status_code == 200
        assert service.health().status_code == 503
        assert "version 7" in service.health().json()["problems"][0]
    finally:
        service.stop()


def test_a_pattern_of_thousands_of_pieces_is_found_at_once(archive: ArchiveService, people: dict[str, Instance]) -> None:
    assert names_of(archive, people, "PatientName=" + "*e" * 2000) == set()
    assert names_of(archive, people, "PatientName=D*O*E*J*A*N*E*" + "*" * 2000) == {"doe"}


def test_a_search_has_its_time(archive: ArchiveService, people: dict[str, Instance], tmp_path: Path) -> None:
    brief = archive.beside(tmp_path, ARCHIVE_DICOMWEB_STATEMENT_SECONDS="0.000001")
    try:
        assert brief.get("/studies?ManufacturerModelName=none", JSON).status_code == 503
    finally:
        brief.stop()


def test_metrics_are_those_of_all_workers(archive: ArchiveService, tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    counted = archive.beside(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(directory))
    try:
        for _ in range(12):
            counted.get("/studies?limit=1")
        for _ in range(6):
            page = requests.get(counted.url.replace("/dicom-web", "/metrics"), timeout=60).text
            assert 'archive_dicomweb_requests_total{status="200",transaction="search"} 12.0' in page
    finally:
        counted.stop()


@pytest.mark.parametrize(
    ("characters", "name", "description", "searched"),
    [
        ("ISO 2022 IR 13/ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "胸部", ["*太郎*", "ﾔﾏﾀﾞ*", "=山田^太郎"]),
        ("ISO 2022 IR 6/ISO 2022 IR 87", "Yamada^Hanako=山田^花子=やまだ^はなこ", "胸部CT", ["*花子*", "yamada^hanako", "*はなこ"]),
        ("ISO 2022 IR 6/ISO 2022 IR 87", "Suzuki^Jirou", "頭部MRI", ["suzuki^*"]),
        ("/ISO 2022 IR 87", "Tanaka^Ken=田中^健", "腹部", ["*田中*"]),
        ("ISO 2022 IR 6/ISO 2022 IR 87", "やまだ^たろう", "腹部", ["*やまだ*", "やまだ^たろう"]),
        ("ISO 2022 IR 6/ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "가슴", ["*吉洞*", "*길동"]),
        ("ISO_IR 100/ISO 2022 IR 87", "Äb^Cé=山本^Ä", "é", ["*山本*"]),
        ("ISO 2022 IR 13/ISO 2022 IR 87", "本宮^須服美", "腹部", ["本宮*", "本宮^須服美", "*服*"]),
        ("ISO 2022 IR 100/ISO 2022 IR 144", "Äpfel^Люксембург", "Печень", ["*люк*", "äpfel*"]),
        ("ISO 2022 IR 100/ISO 2022 IR 126", "Apfel^Διονυσιος", "ήπαρ", ["*Διον*"]),
        ("ISO 2022 IR 144/ISO 2022 IR 100", "Иван^Müller", "Äpfel", ["*müller", "иван*"]),
        ("ISO 2022 IR 100/ISO 2022 IR 149", "홍^길동", "가슴", ["홍*", "*동"]),
        ("ISO 2022 IR 100/ISO 2022 IR 101", "Dvořák^A", "Łuk", ["dvořák*"]),
    ],
)
def test_names_in_several_character_sets(
    archive: ArchiveService,
    orthanc: OrthancServer,
    tmp_path: Path,
    characters: str,
    name: str,
    description: str,
    searched: list[str],
) -> None:
    """Orthanc's index has some of them in the first one alone."""
    [instance] = ct_study(
        1, tmp_path, 16, SpecificCharacterSet=characters.split("/"), PatientName=name, StudyDescription=description
    )
    orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    uid = instance.dataset.StudyInstanceUID
    for value in searched:
        found = archive.found(f"/studies?{urlencode({'PatientName': value})}")
        [study] = [study for study in found if study["0020000D"]["Value"] == [uid]]
        assert "=".join(study["00100010"]["Value"][0].values()) == name
        assert study["00081030"]["Value"] == [description]


def test_large_values_have_the_addresses_that_metadata_give_them(
    archive: ArchiveService, orthanc: OrthancServer, tmp_path: Path
) -> None:
    [instance] = ct_study(1, tmp_path, 16, TextValue="long " * 5000)
    item = Dataset()
    item.TextValue = "longer " * 5000
    instance.dataset.ContentSequence = [item]
    instance.dataset.save_as(instance.path)
    orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    [metadata] = archive.get(f"{instance.url}/metadata", JSON).json()
    place = f"/studies/{instance.dataset.StudyInstanceUID}"
    for path in (f"{place}/instances?includefield=TextValue,ContentSequence", f"{place}/instances?includefield=all"):
        [found] = archive.found(path)
        for tag in ("0040A160", "0040A730"):
            assert found[tag] == metadata[tag]
    address = metadata["0040A730"]["Value"][0]["0040A160"]["BulkDataURI"]
    assert b"longer longer" in requests.get(address, timeout=60).content


@pytest.mark.parametrize(
    "text",
    ["CT HEAD (BRAIN)", "MR KNEE (INT)", "AX T1 (JOINT)", "T2 (BLADE)", "Klinik (Innere)", "US$BILLED", "$100 (BASE)"],
)
def test_ordinary_texts_are_taken_as_they_are(text: str) -> None:
    assert not misread({"00081030": element("LO", text), "00100010": element("PN", {"Alphabetic": "Doe^J (BI)"})})
