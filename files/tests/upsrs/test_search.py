"""Searches over workitems of their own, told apart by their worklist label."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from servers import Postgres, Service
from worklist_client import Client, code, element, new_uid, warning

LABEL = f"SEARCH-{new_uid()[-8:]}"

WORKITEMS = {
    "ct": {
        "T00100010": element("PN", {"Alphabetic": "Müller^Änne", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}),
        "T00100020": element("LO", "SEARCH-1"),
        "T00404005": element("DT", "20260105101530"),
        "T00404025": element("SQ", code("CT1", "99A"), code("CT2", "99B")),
        "T00404018": element("SQ", code("110005", "DCM")),
        "T00741200": element("CS", "HIGH"),
    },
    "mr": {
        "T00100010": element("PN", {"Alphabetic": "MILLER^ANN"}),
        "T00100020": element("LO", "SEARCH-2"),
        "T00404005": element("DT", "20260206235959.5"),
        "T00404011": element("DT", "20260207"),
        "T00404025": element("SQ", code("MR1", "99A"), code("CT1", "99B")),
        "T00741204": element("LO", "100% of * and _"),
        "T00100030": element("DA", "19991231"),
        "T00100032": element("TM", "093000"),
    },
    "east": {
        "T00100010": element("PN", {"Alphabetic": "O'Neil^Mary^^Dr"}),
        "T00100020": element("LO", "SEARCH-3"),
        # 1 March, 00:30 of UTC.
        "T00404005": element("DT", "20260301093000+0900"),
        "T00404034": element(
            "SQ", {"00404009": element("SQ", code("SMITH", "99H")), "00404037": element("PN", {"Alphabetic": "Smith^Jo"})}
        ),
        "T00101020": element("DS", 1.75),
        "T00400400": element("LT"),
    },
}


@pytest.fixture(scope="module")
def uids(service: Service) -> Iterator[dict[str, str]]:
    client = Client(service.url)
    yield {name: client.created(T00741202=element("LO", LABEL), **attributes) for name, attributes in WORKITEMS.items()}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "ct mr east"),
        ("PatientID=SEARCH-1", "ct"),
        ("00100020=SEARCH-1", "ct"),
        ("PatientID=search-1", ""),
        ("PatientID=SEARCH-?", "ct mr east"),
        ("PatientID=*-2", "mr"),
        ("PatientID=", "ct mr east"),
        ("PatientName=M*", "ct mr"),
        ("PatientName=miller%5Eann", "mr"),
        ("PatientName=M%C3%BCller%5E%C3%84nne", "ct"),
        ("PatientName=m%C3%BCller*", "ct"),
        ("PatientName=%E5%B1%B1%E7%94%B0*", "ct"),
        ("PatientName=M%C3%BCller*%3D%E5%B1%B1%E7%94%B0*", "ct"),
        ("PatientName=M%C3%BCller*%3D%E5%B1%B1%E6%9C%AC*", ""),
        ("PatientName=O%27Neil%5EMary%5E%5EDr", "east"),
        ("PatientName=O%27Neil", ""),
        ("PatientName=anne muller&fuzzymatching=true", "ct"),
        ("PatientName=mil&fuzzymatching=true", "mr"),
        ("PatientName=iller&fuzzymatching=true", ""),
        ("PatientName=anne muller&fuzzymatching=false", ""),
        ("ScheduledProcedureStepPriority=HIGH", "ct"),
        ("ProcedureStepState=SCHEDULED", "ct mr east"),
        ("00741000=COMPLETED", ""),
        ("ProcedureStepState=S*", "ct mr east"),
        # Dates and times, by the precision that is asked.
        ("ScheduledProcedureStepStartDateTime=2026", "ct mr east"),
        ("ScheduledProcedureStepStartDateTime=202601", "ct"),
        ("00404005=20260105", "ct"),
        ("00404005=20260105101530", "ct"),
        ("00404005=20260105101531", ""),
        ("00404005=20260206-", "mr east"),
        ("00404005=-20260206", "ct mr"),
        ("00404005=20260101-20260131", "ct"),
        ("00404005=2026-2027", "ct mr east"),
        ("00404005=202602-202602", "mr"),
        ("00404005=20260206235959.5-20260301", "mr east"),
        ("00404005=20260206235959.6-20260301", "east"),
        ("00404005=202603010030", "east"),
        ("00404005=202603010930%2B0900", "east"),
        ("00404005=20260228193000-0500-20260228193100-0500", "east"),
        ("00404005=202603010930&TimezoneOffsetFromUTC=%2B0900", "east"),
        ("00404011=20260207", "mr"),
        ("00404010=2000-", "ct mr east"),
        ("00404010=-2000", ""),
        ("PatientBirthDate=19991231", "mr"),
        ("PatientBirthDate=19990101-19991231", "mr"),
        ("PatientBirthDate=-19700101", "ct east"),
        ("PatientBirthDate=20000101-", ""),
        ("PatientBirthTime=0900-1000", "mr"),
        ("PatientBirthTime=-0930", "mr"),
        ("PatientBirthTime=0931-", ""),
        # Within sequences: all keys of one in the same item.
        ("00404025.00080100=CT1", "ct mr"),
        ("ScheduledStationNameCodeSequence.CodeValue=MR1", "mr"),
        ("00404025.00080100=CT1&00404025.00080102=99A", "ct"),
        ("00404025.00080100=CT*&00404025.00080102=99B", "ct mr"),
        ("00404025.00080100=MR*&00404025.00080102=99B", ""),
        ("00404025.00080100=C?2", "ct"),
        ("00404034.00404009.00080100=SMITH", "east"),
        ("00404034.00404009.00080100=SM*", "east"),
        ("00404034.00404009.00080100=SM*&00404034.00404037=smith*", "east"),
        ("00404034.HumanPerformerName=jo&fuzzymatching=true", "east"),
        ("00404034.00404037=Smith%5EJo&00404034.00404009.00080102=99X", ""),
        ("00404025=", "ct mr east"),
        # What LIKE would take for its own.
        ("ProcedureStepLabel=100%25 of ?", ""),
        ("ProcedureStepLabel=100%25*", "mr"),
        ("ProcedureStepLabel=%25", ""),
        ("ProcedureStepLabel=*_", "mr"),
        ("ProcedureStepLabel=%5C", ""),
        # Numbers, and what is empty.
        ("PatientSize=1.75", "east"),
        ("PatientSize=1.750", "east"),
        ("CommentsOnTheScheduledProcedureStep=%22%22&emptyvaluematching=true", "ct mr east"),
        ("00404034=&PatientSize=%22%22&emptyvaluematching=true", "ct mr"),
        ("00404034.00404037=%22%22&emptyvaluematching=true", ""),
        ("limit=2", "ct mr"),
        ("limit=2&offset=1", "mr east"),
        ("offset=3", ""),
        ("limit=0", ""),
    ],
)
def test_finds(client: Client, uids: dict[str, str], query: str, expected: str) -> None:
    found = client.found(f"?00741202={LABEL}&{query}")
    assert found == [uids[name] for name in expected.split()]


def test_a_list_of_uids(client: Client, uids: dict[str, str]) -> None:
    wanted = [uids["mr"], uids["ct"]]
    for separator in (",", "%5C"):
        assert client.found(f"?SOPInstanceUID={separator.join(wanted)}") == [uids["ct"], uids["mr"]]
    assert client.found(f"?SOPInstanceUID={uids['ct']}") == [uids["ct"]]


def test_what_is_returned(client: Client, uids: dict[str, str]) -> None:
    (bare,) = client.search(f"?SOPInstanceUID={uids['east']}").json()
    assert "00101020" not in bare and "00404034" in bare and "00741216" not in bare
    (more,) = client.search(f"?SOPInstanceUID={uids['east']}&includefield=PatientSize,00741216&includefield=StudyID").json()
    assert more["00101020"]["Value"] == [1.75]
    assert more["00741216"] == {"vr": "SQ"}
    assert more["00200010"] == {"vr": "SH"}
    (everything,) = client.search(f"?SOPInstanceUID={uids['east']}&includefield=all").json()
    assert everything == client.dataset(uids["east"])
    (asked,) = client.search(f"?SOPInstanceUID={uids['east']}&PatientSize=1.75").json()
    assert asked["00101020"]["Value"] == [1.75]


def test_what_remains_is_said(client: Client, uids: dict[str, str]) -> None:
    assert warning(client.search(f"?00741202={LABEL}&limit=1")) == "There are 2 additional results that can be requested"
    assert warning(client.search(f"?00741202={LABEL}&limit=1&offset=1")) == "There are 1 additional results that can be requested"
    assert warning(client.search(f"?00741202={LABEL}&limit=3")) is None


def test_not_more_are_counted_than_one_search_answers(postgres: Postgres) -> None:
    service = Service(postgres.make_database("most"), PYUPSRS_MAX_RESULTS="5", PYUPSRS_WORKERS="1")
    client = Client(service.url)
    try:
        for _ in range(12):
            client.created()
        for query, count, remaining in (("?limit=100", 5, 5), ("?limit=2", 2, 5), ("?offset=6", 5, 1), ("?offset=7", 5, None)):
            answer = client.search(query)
            assert len(answer.json()) == count
            assert warning(answer) == (f"There are {remaining} additional results that can be requested" if remaining else None)
    finally:
        service.stop()


def test_no_match(client: Client) -> None:
    answer = client.search("?PatientID=nobody-has-this")
    assert (answer.status_code, answer.json()) == (200, [])
    as_xml = client.search("?PatientID=nobody-has-this", headers={"Accept": "application/dicom+xml"})
    assert (as_xml.status_code, as_xml.content) == (204, b"")


def test_xml_comes_in_parts(client: Client, uids: dict[str, str]) -> None:
    answer = client.search(f"?00741202={LABEL}", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
    assert kind == 'multipart/related; type="application/dicom+xml"'
    parts = answer.content.split(b"--" + boundary.encode())[1:-1]
    names = []
    for part in parts:
        head, _, body = part.strip().partition(b"\r\n\r\n")
        assert head == b"Content-Type: application/dicom+xml"
        root = ElementTree.fromstring(body)
        space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
        names.append(root.findtext(f"{space}DicomAttribute[@tag='00080018']/{space}Value"))
    assert names == list(uids.values())


@pytest.mark.parametrize(
    "query",
    [
        "PatientNam=x",
        "00741000.00080100=x",
        "00404025=CT1",
        "PatientID=a&PatientID=b",
        "PatientID=a&00100020=b",
        "00404025.00080100=a&00404025.CodeValue=b",
        "00081195=1.2.3",
        "limit=-1",
        "limit=many",
        "limit=1&limit=2",
        "offset=1.5",
        "fuzzymatching=yes",
        "includefield=Nothing",
        "includefield=all&includefield=PatientID",
        "00404005=yesterday",
        "00404005=20261301",
        "00404005=20260101-2026-2027",
        "00404005=-",
        "PatientBirthDate=a-b",
        "PatientSize=tall",
        "PatientSize=nan",
        "PatientSize=1e999",
        "SOPInstanceUID=1.2.x",
        "TimezoneOffsetFromUTC=CET",
        "PatientName=%ff",
        "PatientID=%00",
    ],
)
def test_refuses(client: Client, query: str) -> None:
    answer = client.search(f"?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]
