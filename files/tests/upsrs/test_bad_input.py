"""Whatever is sent: a clear 4xx that names the attribute, never a 500, never a half-made workitem."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Service
from worklist_client import JSON, Client, element, new_uid, workitem

XML = {"Content-Type": "application/dicom+xml"}
NAMESPACE = 'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'


def post(client: Client, body: bytes, headers: dict[str, str] = JSON) -> requests.Response:
    return client.session.post(f"{client.url}/workitems", data=body, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[{}, {}]",
        b"7",
        b'"workitem"',
        b"[[]]",
        b"\xff\xfe{}",
        b'{"00741000": NaN}',
        b'{"00741000": {"vr": "CS"}, "00741000": {"vr": "CS"}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"00741000": {"vr": "CS", "Value": [' + b"9" * 5000 + b"]}}",
        b'{"PatientName": {"vr": "PN"}}',
    ],
)
def test_a_body_that_is_no_workitem(client: Client, body: bytes) -> None:
    answer = post(client, body)
    assert answer.status_code == 400 and answer.json()["message"]


@pytest.mark.parametrize(
    ("tag", "given_attribute"),
    [
        ("00100010", "Doe^Jane"),
        ("00100010", {"Value": [{"Alphabetic": "Doe"}]}),
        ("00100010", {"vr": "XX"}),
        ("00100010", {"vr": "LO", "Value": ["Doe"]}),
        ("00100010", element("PN", "Doe^Jane")),
        ("00100010", element("PN", {"Alphabetic": 7})),
        ("00100010", element("PN", {"Latin": "Doe"})),
        ("00100010", element("PN", {"Alphabetic": "x" * 65})),
        ("00100010", element("PN", {"Alphabetic": "a=b"})),
        ("00100020", element("LO", {"vr": "LO"})),
        ("00100020", element("LO", ["a"])),
        ("00100020", element("LO", 7)),
        ("00100020", element("LO", "x" * 65)),
        ("00100020", element("LO", "a\\b")),
        ("00100020", element("LO", "line\nbreak")),
        ("00100020", element("LO", "nul\x00")),
        ("00100020", element("LO", "\ud800")),
        ("00100020", {"vr": "LO", "Value": "PAT"}),
        ("00100020", {"vr": "LO", "Value": ["PAT"], "InlineBinary": "AAAA"}),
        ("00100020", {"vr": "LO", "BulkDataURI": "http://127.0.0.1/"}),
        ("00100020", {"vr": "LO", "Worth": []}),
        ("00100030", element("DA", "31.12.1999")),
        ("00100030", element("DA", "20260230")),
        ("00100030", element("DA", "19990101-19991231")),
        ("00404005", element("DT", "tomorrow")),
        ("00404005", element("DT", "20260101-20260102")),
        ("0020000D", element("UI", "1.2.x")),
        ("0020000D", element("UI", "1." + "2" * 64)),
        ("00741200", element("CS", "high")),
        ("00201208", element("IS", "many")),
        ("00201208", element("IS", 2**31)),
        ("00201208", element("IS", 1.5)),
        ("00201208", element("IS", True)),
        ("00101020", element("DS", "1.5m")),
        ("00101020", element("DS", "1e400")),
        ("00280010", element("US", -1)),
        ("00280010", element("US", 65536)),
        ("00404025", element("SQ", "CT1")),
        ("00404025", element("SQ", ["CT1"])),
        ("00404025", element("SQ", {"00080100": "CT1"})),
        ("00420011", {"vr": "OB", "Value": ["AAAA"]}),
        ("00420011", {"vr": "OB", "InlineBinary": "%%%"}),
        ("00420011", {"vr": "OB", "InlineBinary": 7}),
        ("00091001", element("SQ", {"00091002": {"vr": "QQ"}})),
        ("00209165", element("AT", "0010001")),
    ],
)
def test_a_wrong_attribute_is_named(client: Client, tag: str, given_attribute: Any) -> None:
    uid = new_uid()
    dataset = workitem(**{f"T{tag}": given_attribute})
    answer = client.session.post(f"{client.url}/workitems?workitem={uid}", data=json.dumps([dataset]), headers=JSON)
    assert answer.status_code == 400 and tag in answer.json()["message"], answer.text
    assert client.retrieve(uid).status_code == 404


def test_an_attribute_of_an_item_is_named_with_its_place(client: Client) -> None:
    wrong = element("SQ", {"00080100": element("SH", "ok")}, {"00080100": element("SH", "x" * 17)})
    message = client.create(workitem(T00404025=wrong)).json()["message"]
    assert "00404025 (ScheduledStationNameCodeSequence)[1].00080100 (CodeValue)" in message


def test_what_can_be_read_in_one_way_only_is_taken(client: Client) -> None:
    uid = client.created(
        **{
            "T00201208": element("IS", " 12 "),
            "T00101020": element("DS", "1.750"),
            "T00100020": element("LO", "  PAT-2  "),
            "T0040a730": {"vr": "SQ", "Value": []},
            "T00420011": {"vr": "OB", "InlineBinary": base64.b64encode(b"\0\1").decode()},
            "T00209165": element("AT", "0010000d"),
            "T00104000": element("LT", "two\r\nlines"),
            "T00100021": element("LO", None),
        }
    )
    kept = client.dataset(uid)
    assert kept["00201208"]["Value"] == [12] and kept["00101020"]["Value"] == [1.75] and kept["00100020"]["Value"] == ["PAT-2"]
    assert kept["0040A730"] == {"vr": "SQ"} and kept["00420011"]["InlineBinary"] == "AAE="
    assert (
        kept["00209165"]["Value"] == ["0010000D"]
        and kept["00104000"]["Value"] == ["two\r\nlines"]
        and kept["00100021"] == {"vr": "LO"}
    )


@pytest.mark.parametrize("depth", [10, 40, 2000])
def test_nested_sequences(client: Client, depth: int) -> None:
    item: dict[str, Any] = {"00080100": element("SH", "deep")}
    for _ in range(depth):
        item = {"0040A730": element("SQ", item)}
    body = '{"0040A730": {"vr": "SQ", "Value": [' * depth + "{}" + "]}}" * depth
    answer = post(client, json.dumps(workitem() | json.loads(body)).encode()) if depth < 500 else post(client, body.encode())
    assert answer.status_code == (201 if depth == 10 else 400), answer.text


def test_a_long_body(client: Client) -> None:
    body = json.dumps([workitem(T00104000=element("LT", "x" * 2_000_000))]).encode()
    answer = post(client, body)
    assert answer.status_code == 413 and "1048576" in answer.json()["message"]
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    assert client.session.post(f"{client.url}/workitems", data=pieces, headers=JSON).status_code == 413


@pytest.mark.parametrize(
    ("kind", "status"),
    [("text/plain", 415), ("", 415), ("application/dicom", 415), ("application/dicom+json; charset=latin-1", 415)],
)
def test_a_wrong_content_type(client: Client, kind: str, status: int) -> None:
    uid = client.created()
    body = json.dumps([workitem()]).encode()
    for method, path in (
        ("POST", "/workitems"),
        ("POST", f"/workitems/{uid}"),
        ("PUT", f"/workitems/{uid}/state"),
        ("POST", f"/workitems/{uid}/cancelrequest"),
    ):
        answer = client.session.request(method, client.url + path, data=body, headers={"Content-Type": kind} if kind else {})
        assert answer.status_code == status, (method, path)


def test_a_wrong_accept(client: Client) -> None:
    uid = client.created()
    headers = {"Accept": "text/html"}
    assert client.retrieve(uid, headers=headers).status_code == 406
    assert client.search("", headers=headers).status_code == 406
    refused = new_uid()
    assert client.create(workitem(), refused, headers=headers | JSON).status_code == 406
    assert client.retrieve(refused).status_code == 404
    assert client.session.options(f"{client.url}/workitems", headers={"Accept": "image/png"}).status_code == 406
    assert client.search("?accept=application/dicom%2Bxml&limit=1").headers["Content-Type"].startswith("multipart/related")


@pytest.mark.parametrize("query", ["?workitem=1.2.x", "?workitem=1.2.3&workitem=1.2.4", "?colour=red", "?1.2.03", "?workitem=%ff"])
def test_a_wrong_query_at_create(client: Client, query: str) -> None:
    answer = client.session.post(f"{client.url}/workitems{query}", data=json.dumps([workitem()]), headers=JSON)
    assert answer.status_code == 400


@pytest.mark.parametrize("uid", ["1.2.x", "1", "1..2", "01.2", "1." + "2" * 63, "%00", "..%2f", "1.2.3%0a"])
def test_a_wrong_uid_in_the_address(client: Client, uid: str) -> None:
    for answer in (client.retrieve(uid), client.change_state(uid, "IN PROGRESS", "1.2.3"), client.subscribe(uid, "AE")):
        assert answer.status_code in (400, 404) and answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"<",
        b"<NativeDicomModel>",
        b"<Other/>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><NativeDicomModel>&a;</NativeDicomModel>",
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        f"<NativeDicomModel {NAMESPACE}><Value>1</Value></NativeDicomModel>".encode(),
        f'<NativeDicomModel {NAMESPACE}><DicomAttribute tag="00741000" vr="CS"><X/></DicomAttribute></NativeDicomModel>'.encode(),
        f'<NativeDicomModel {NAMESPACE}><DicomAttribute tag="0074" vr="CS"/></NativeDicomModel>'.encode(),
        f"<NativeDicomModel {NAMESPACE}><DicomAttribute/></NativeDicomModel>".encode(),
        f"<NativeDicomModel {NAMESPACE}/>".encode(),
        f"<NativeDicomModel {NAMESPACE}>{'<DicomAttribute>' * 50000}".encode(),
        b'<?xml version="1.0" encoding="utf-7"?><NativeDicomModel/>',
    ],
)
def test_wrong_xml(client: Client, body: bytes) -> None:
    answer = post(client, body, XML)
    assert answer.status_code == 400 and answer.json()["message"]


# The fuzzer's attributes: those that the service looks into, with any JSON in place of what belongs there.
_JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_TAGS = st.sampled_from(sorted(workitem())) | st.from_regex(r"[0-9A-Fa-f]{8}", fullmatch=True) | st.text(max_size=9)
_VRS = st.sampled_from(["CS", "DT", "DA", "TM", "PN", "LO", "SQ", "UI", "DS", "IS", "US", "OB", "AT", "LT", "UN", "FL"]) | st.text(
    max_size=3
)
_ATTRIBUTES = _JSON_VALUES | st.fixed_dictionaries(
    {"vr": _VRS},
    optional={
        "Value": st.lists(_JSON_VALUES, max_size=3) | _JSON_VALUES,
        "InlineBinary": _JSON_VALUES,
        "BulkDataURI": _JSON_VALUES,
    },
)
_FUZZ = settings(max_examples=300)


@_FUZZ
@given(changes=st.dictionaries(_TAGS, _ATTRIBUTES, max_size=4))
def test_fuzzed_workitems(service: Service, changes: dict[str, Any]) -> None:
    client, uid = Client(service.url), new_uid()
    answer = client.session.post(f"{client.url}/workitems?workitem={uid}", data=json.dumps([workitem() | changes]), headers=JSON)
    assert answer.status_code in (201, 400), (answer.status_code, answer.text)
    kept = client.retrieve(uid)
    assert kept.status_code == (200 if answer.status_code == 201 else 404)


@_FUZZ
@given(body=st.binary(max_size=200) | _JSON_VALUES.map(lambda value: json.dumps(value).encode()), kind=st.sampled_from([JSON, XML]))
def test_fuzzed_bodies(service: Service, body: bytes, kind: dict[str, str]) -> None:
    client = Client(service.url)
    for method, path in (("POST", "/workitems"), ("PUT", "/workitems/1.2.3/state"), ("POST", "/workitems/1.2.3")):
        assert 400 <= client.session.request(method, client.url + path, data=body, headers=kind).status_code < 500


@_FUZZ
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "PatientName",
                    "00404005",
                    "00404025.00080100",
                    "00404034.00404009.00080100",
                    "limit",
                    "SOPInstanceUID",
                    "PatientSize",
                    "includefield",
                ]
            )
            | st.text(max_size=12),
            st.text(max_size=30) | st.from_regex(r"[0-9*?.+-]{1,20}", fullmatch=True),
        ),
        max_size=3,
    ),
    fuzzy=st.booleans(),
)
def test_fuzzed_searches(service: Service, pairs: list[tuple[str, str]], fuzzy: bool) -> None:
    client = Client(service.url)
    answer = client.session.get(
        f"{client.url}/workitems", params=[*pairs, ("fuzzymatching", str(fuzzy).lower()), ("emptyvaluematching", "true")]
    )
    assert answer.status_code in (200, 400), (answer.status_code, answer.text)


@_FUZZ
@given(text=st.text(max_size=60))
def test_fuzzed_filters(service: Service, text: str) -> None:
    client = Client(service.url)
    answer = client.session.post(f"{client.url}/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/FUZZ", params={"filter": text})
    assert answer.status_code in (201, 400), (answer.status_code, answer.text)
    client.unsubscribe("1.2.840.10008.5.1.4.34.5.1", "FUZZ")
