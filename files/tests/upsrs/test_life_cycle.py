"""Create, retrieve, update, change of state, request for cancellation: each with every status and Warning that it has."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest
import requests
from dicomweb.dataset import checked
from dicomweb.native_xml import read_xml, write_xml
from servers import Postgres, Service
from worklist_client import JSON, Client, discontinued, element, new_uid, performed, warning, workitem

STATES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")
INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."


def state(client: Client, uid: str) -> str:
    return client.dataset(uid)["00741000"]["Value"][0]


def test_create_answers_with_the_address(client: Client) -> None:
    uid = new_uid()
    answer = client.create(workitem(), uid)
    assert (answer.status_code, answer.content, warning(answer)) == (201, b"", None)
    assert answer.headers["Location"] == answer.headers["Content-Location"] == f"{client.url}/workitems/{uid}"
    kept = client.session.get(answer.headers["Location"]).json()[0]
    assert kept["00080018"]["Value"] == [uid]
    assert kept["00080016"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
    assert kept["00404010"]["Value"][0].endswith("+0000")
    sent = {tag: value for tag, value in workitem().items() if tag != "00081195"}
    assert {tag: kept[tag] for tag in sent} == sent


def test_create_takes_the_uid_from_the_body_or_makes_one(client: Client) -> None:
    for tag in ("00080018", "00001000"):
        uid = new_uid()
        assert client.create(workitem(**{f"T{tag}": element("UI", uid)})).headers["Location"].endswith(uid)
        assert client.retrieve(uid).status_code == 200
    made = client.create(workitem()).headers["Location"].rsplit("/", 1)[1]
    assert made.startswith("2.25.") and client.retrieve(made).status_code == 200


def test_create_takes_a_bare_object_and_the_older_form_of_the_uid(client: Client) -> None:
    uid = new_uid()
    answer = client.session.post(
        f"{client.url}/workitems?{uid}", data=json.dumps(workitem()), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201 and answer.headers["Location"].endswith(uid)


def test_create_says_when_it_added_what_may_be_empty(client: Client) -> None:
    uid = new_uid()
    answer = client.create(workitem(T00741210=None, T00404025=None), uid)
    assert (answer.status_code, warning(answer)) == (201, "The Workitem was created with modifications.")
    assert client.dataset(uid)["00404025"] == {"vr": "SQ"}


def test_create_fills_the_worklist_label(client: Client) -> None:
    assert client.dataset(client.created(T00741202=element("LO")))["00741202"]["Value"] == ["WORKLIST"]


@pytest.mark.parametrize("tag", ["00741200", "00741204", "00404005", "00404041", "00741000"])
def test_create_demands_what_must_have_a_value(client: Client, tag: str) -> None:
    for given in (None, {"vr": workitem()[tag]["vr"]}):
        answer = client.create(workitem(**{f"T{tag}": given}))
        assert answer.status_code == 400 and tag in answer.json()["message"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("00081195", element("UI", "1.2.3")),
        ("00741002", element("SQ", {"00741004": element("DS", 5)})),
        ("00741216", element("SQ", {"00404050": element("DT", "20261121")})),
        ("00741000", element("CS", "IN PROGRESS")),
        ("00741000", element("CS", "DONE")),
        ("00741200", element("CS", "URGENT")),
        ("00404041", element("CS", "MAYBE")),
        ("00080016", element("UI", "1.2.840.10008.5.1.4.34.6.2")),
    ],
)
def test_create_refuses_what_must_not_be_there(client: Client, tag: str, value: dict[str, object]) -> None:
    uid = new_uid()
    answer = client.create(workitem(**{f"T{tag}": value}), uid)
    assert answer.status_code == 400 and tag in answer.json()["message"]
    assert client.retrieve(uid).status_code == 404


def test_create_refuses_a_second_one(client: Client) -> None:
    uid = client.created(T00741204=element("LO", "the first"))
    assert client.create(workitem(), uid).status_code == 409
    assert client.dataset(uid)["00741204"]["Value"] == ["the first"]


def test_create_refuses_two_uids(client: Client) -> None:
    assert client.create(workitem(T00080018=element("UI", "1.2.3")), "1.2.4").status_code == 400
    assert client.create(workitem(), "1.2.840.10008.5.1.4.34.5").status_code == 400


def test_retrieve_never_shows_the_transaction_uid(client: Client) -> None:
    uid, transaction_uid = client.claimed()
    for accept in ("application/dicom+json", "application/dicom+xml"):
        answer = client.retrieve(uid, headers={"Accept": accept})
        assert answer.status_code == 200
        assert "00081195" not in answer.text and transaction_uid not in answer.text
    assert transaction_uid not in client.search(f"?00080018={uid}&includefield=00081195").text


def test_retrieve_unknown_and_deleted(client: Client, service: Service) -> None:
    import psycopg

    assert client.retrieve(new_uid()).status_code == 404
    uid = client.created()
    with psycopg.connect(service.uri) as connection:
        connection.execute("UPDATE workitems SET deleted_at = now() WHERE uid = %s", (uid,))
    assert client.retrieve(uid).status_code == 410
    assert client.update(uid, {"00741204": element("LO", "x")}).status_code == 410
    assert client.change_state(uid, "IN PROGRESS", new_uid()).status_code == 410
    assert client.request_cancellation(uid).status_code == 410
    assert client.subscribe(uid, "AE").status_code == 410
    assert client.create(workitem(), uid).status_code == 409
    assert uid not in client.found(f"?00080018={uid}")


def test_update_of_a_scheduled_workitem(client: Client) -> None:
    uid = client.created()
    before = client.dataset(uid)
    answer = client.update(uid, {"00741204": element("LO", "Read it again")})
    assert (answer.status_code, warning(answer)) == (200, None)
    after = client.dataset(uid)
    assert after["00741204"]["Value"] == ["Read it again"]
    assert after["00404010"]["Value"] > before["00404010"]["Value"]
    changed = {"00741204", "00404010"}
    assert {tag: value for tag, value in after.items() if tag not in changed} == {
        tag: value for tag, value in before.items() if tag not in changed
    }


def test_update_by_put_as_some_clients_do(client: Client) -> None:
    uid = client.created()
    body = json.dumps({"00741204": element("LO", "by PUT")})
    assert client.session.put(f"{client.url}/workitems/{uid}", data=body, headers=JSON).status_code == 200
    assert client.dataset(uid)["00741204"]["Value"] == ["by PUT"]


def test_update_needs_the_performers_uid(client: Client) -> None:
    uid, transaction_uid = client.claimed()
    text = "The submitted request is inconsistent with the current state of the Workitem."
    for given in (None, new_uid()):
        answer = client.update(uid, {"00741204": element("LO", "x")}, given)
        assert (answer.status_code, warning(answer)) == (400, text)
    assert client.update(uid, {"00741204": element("LO", "mine")}, transaction_uid).status_code == 200
    for name in ("transaction", "Transaction-UID", "transaction-uid"):
        body = json.dumps([{"00741204": element("LO", name)}])
        answer = client.session.post(f"{client.url}/workitems/{uid}?{name}={transaction_uid}", data=body, headers=JSON)
        assert answer.status_code == 200
    in_body = {"00081195": element("UI", transaction_uid), "00741204": element("LO", "in the body")}
    assert client.update(uid, in_body).status_code == 200
    assert client.dataset(uid)["00741204"]["Value"] == ["in the body"]
    assert client.update(uid, in_body, new_uid()).status_code == 400


def test_update_of_a_scheduled_workitem_with_a_uid(client: Client) -> None:
    answer = client.update(client.created(), {"00741204": element("LO", "x")}, new_uid())
    assert (answer.status_code, warning(answer)) == (409, "The target URI did not reference a claimed Workitem.")


@pytest.mark.parametrize("final", ["COMPLETED", "CANCELED"])
def test_update_of_a_final_workitem(client: Client, final: str) -> None:
    uid, transaction_uid = client.finished(final)
    answer = client.update(uid, {"00741204": element("LO", "x")}, transaction_uid)
    text = "The submitted request is inconsistent with the current state of the Workitem."
    assert (answer.status_code, warning(answer)) == (400, text)


def test_update_of_an_unknown_workitem(client: Client) -> None:
    assert client.update(new_uid(), {"00741204": element("LO", "x")}).status_code == 404


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("00741000", element("CS", "COMPLETED")),
        ("00080016", element("UI", "1.2.3")),
        ("00100010", element("PN", {"Alphabetic": "Roe"})),
        ("00100020", element("LO", "another")),
        ("00100030", element("DA", "19800101")),
        ("00100040", element("CS", "M")),
        ("00380010", element("LO", "A1")),
        ("0040A370", element("SQ", {"00080050": element("SH", "1")})),
        ("00741224", element("SQ", {"00081150": element("UI", "1.2")})),
        ("00741204", element("LO")),
        ("00741200", element("CS", "URGENT")),
    ],
)
def test_update_refuses_what_may_not_change(client: Client, tag: str, value: dict[str, object]) -> None:
    uid = client.created()
    before = client.dataset(uid)
    answer = client.update(uid, {"00741202": element("LO", "OTHER"), tag: value})
    assert answer.status_code == 400 and tag in answer.json()["message"]
    assert client.dataset(uid) == before


def test_update_with_the_whole_workitem_as_it_was_retrieved(client: Client) -> None:
    uid = client.created()
    whole = client.dataset(uid) | {"00741202": element("LO", "OTHER")}
    assert client.update(uid, whole).status_code == 200
    assert client.dataset(uid)["00741202"]["Value"] == ["OTHER"]


def test_update_says_when_it_kept_its_own_time(client: Client) -> None:
    uid = client.created()
    answer = client.update(uid, {"00404010": element("DT", "20000101"), "00741202": element("LO", "OTHER")})
    assert (answer.status_code, warning(answer)) == (200, "The Workitem was updated with modifications.")
    assert not client.dataset(uid)["00404010"]["Value"][0].startswith("2000")


# Table CC.1.1-2: the state before, the state asked for, whose Transaction UID, then the status, the code and the Warning.
_RIGHT = [
    ("SCHEDULED", "IN PROGRESS", 200, None, None),
    ("SCHEDULED", "COMPLETED", 409, "C310", INCONSISTENT),
    ("SCHEDULED", "CANCELED", 409, "C310", INCONSISTENT),
    ("IN PROGRESS", "IN PROGRESS", 409, "C302", INCONSISTENT),
    ("IN PROGRESS", "COMPLETED", 409, "C304", INCONSISTENT),
    ("IN PROGRESS", "CANCELED", 409, "C304", INCONSISTENT),
    ("COMPLETED", "IN PROGRESS", 409, "C300", INCONSISTENT),
    ("COMPLETED", "COMPLETED", 200, None, "The UPS is already in the requested state of COMPLETED."),
    ("COMPLETED", "CANCELED", 409, "C300", INCONSISTENT),
    ("CANCELED", "IN PROGRESS", 409, "C300", INCONSISTENT),
    ("CANCELED", "COMPLETED", 409, "C300", INCONSISTENT),
    ("CANCELED", "CANCELED", 200, None, "The UPS is already in the requested state of CANCELED."),
]


@pytest.mark.parametrize(("before", "asked", "status", "reason", "text"), _RIGHT)
def test_change_state_with_the_right_uid(
    client: Client, before: str, asked: str, status: int, reason: str | None, text: str | None
) -> None:
    uid, transaction_uid = client.in_state(before)
    answer = client.change_state(uid, asked, transaction_uid)
    assert (answer.status_code, warning(answer)) == (status, text)
    assert reason is None or answer.json()["message"].startswith(reason)
    assert state(client, uid) == (asked if status == 200 else before)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("asked", STATES[1:])
def test_change_state_without_the_right_uid(client: Client, before: str, asked: str) -> None:
    uid, _ = client.in_state(before)
    missing = client.change_state(uid, asked)
    assert (missing.status_code, warning(missing)) == (400, "The Transaction UID is missing.")
    assert missing.json()["message"].startswith("C301")
    if before != "SCHEDULED":
        wrong = client.change_state(uid, asked, new_uid())
        assert (wrong.status_code, warning(wrong)) == (400, "The Transaction UID is incorrect.")
        assert wrong.json()["message"].startswith("C301")
    assert state(client, uid) == before


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("asked", ["SCHEDULED", "DONE"])
def test_change_state_to_none_that_can_be_asked_for(client: Client, before: str, asked: str) -> None:
    uid, transaction_uid = client.in_state(before)
    answer = client.change_state(uid, asked, transaction_uid)
    assert (answer.status_code, warning(answer)) == (400, INCONSISTENT)
    assert answer.json()["message"].startswith("C303")
    assert state(client, uid) == before


def test_change_state_without_a_state_or_with_a_wrong_uid(client: Client) -> None:
    uid = client.created()
    body = json.dumps([{"00081195": element("UI", new_uid())}])
    assert client.session.put(f"{client.url}/workitems/{uid}/state", data=body, headers=JSON).status_code == 400
    assert client.change_state(uid, "IN PROGRESS", "1.2.x").status_code == 400
    assert client.change_state(new_uid(), "IN PROGRESS", new_uid()).status_code == 404


@pytest.mark.parametrize("final", ["COMPLETED", "CANCELED"])
def test_change_state_to_a_final_one(client: Client, final: str) -> None:
    uid, _ = client.finished(final)
    kept = client.dataset(uid)
    assert kept["00741000"]["Value"] == [final]
    if final == "CANCELED":
        assert kept["00741002"]["Value"][0]["00404052"]["Value"][0].endswith("+0000")


@pytest.mark.parametrize("tag", ["00404028", "00404050", "00404019", "00404051", "00404033"])
def test_change_state_to_completed_demands_what_was_performed(client: Client, tag: str) -> None:
    uid, transaction_uid = client.claimed()
    changes = performed()
    del changes["00741216"]["Value"][0][tag]
    assert client.update(uid, changes, transaction_uid).status_code == 200
    answer = client.change_state(uid, "COMPLETED", transaction_uid)
    assert answer.status_code == 409 and warning(answer) == INCONSISTENT
    message = answer.json()["message"]
    assert message.startswith("C304") and f"00741216 (UnifiedProcedureStepPerformedProcedureSequence).{tag}" in message


def test_change_state_to_canceled_demands_a_reason(client: Client) -> None:
    uid, transaction_uid = client.claimed()
    answer = client.change_state(uid, "CANCELED", transaction_uid)
    assert answer.status_code == 409 and "0074100E" in answer.json()["message"]
    assert client.update(uid, discontinued(), transaction_uid).status_code == 200
    assert client.change_state(uid, "CANCELED", transaction_uid).status_code == 200


def test_two_performers_never_both_have_it(client: Client) -> None:
    def claim(uid: str) -> int:
        own = Client(client.url)
        return own.change_state(uid, "IN PROGRESS", new_uid()).status_code

    with ThreadPoolExecutor(8) as pool:
        for _ in range(25):
            uid = client.created()
            assert sorted(pool.map(claim, [uid] * 8)) == [200] + [400] * 7


def test_cancellation_of_a_scheduled_workitem(client: Client) -> None:
    uid = client.created()
    body = {"00741238": element("LT", "no longer needed")}
    answer = client.request_cancellation(uid, body)
    assert (answer.status_code, answer.content, warning(answer)) == (202, b"", None)
    kept = client.dataset(uid)
    assert kept["00741000"]["Value"] == ["CANCELED"]
    progress = kept["00741002"]["Value"][0]
    assert progress["00741238"]["Value"] == ["no longer needed"]
    assert progress["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    assert progress["00404052"]["Value"]


def test_cancellation_of_a_canceled_workitem(client: Client) -> None:
    uid, _ = client.finished("CANCELED")
    answer = client.request_cancellation(uid)
    assert (answer.status_code, warning(answer)) == (202, "The UPS is already in the requested state of CANCELED.")


def test_cancellation_of_a_completed_workitem(client: Client) -> None:
    uid, _ = client.finished("COMPLETED")
    answer = client.request_cancellation(uid)
    assert (answer.status_code, warning(answer)) == (409, "The UPS is already COMPLETED.")


def test_cancellation_that_nobody_would_hear(client: Client) -> None:
    uid, _ = client.claimed()
    answer = client.request_cancellation(uid)
    assert (answer.status_code, warning(answer)) == (409, "The performer cannot be contacted.")
    assert client.request_cancellation(new_uid()).status_code == 404


def test_cancellation_as_some_clients_ask_for_it(client: Client) -> None:
    uid = client.created()
    assert client.update(uid, {"00741238": element("LT", "not needed")}).status_code == 202
    assert state(client, uid) == "CANCELED"
    other = client.created()
    assert client.update(other, {}).status_code == 200
    assert client.update(other, {"00741238": element("LT", "x"), "00741202": element("LO", "OTHER")}).status_code == 200
    assert state(client, other) == "SCHEDULED"


def test_a_life_in_xml(client: Client) -> None:
    headers = {"Content-Type": "application/dicom+xml", "Accept": "application/dicom+xml"}
    uid, transaction_uid = new_uid(), new_uid()
    dataset = workitem(T00100010=element("PN", {"Alphabetic": "Müller^Änne", "Ideographic": "山田^太郎"}))
    created = client.session.post(f"{client.url}/workitems?workitem={uid}", data=write_xml(dataset), headers=headers)
    assert created.status_code == 201, created.text
    kept = client.dataset(uid)
    assert {tag: kept[tag] for tag in dataset if tag != "00081195"} == {tag: dataset[tag] for tag in dataset if tag != "00081195"}
    claim = write_xml({"00081195": element("UI", transaction_uid), "00741000": element("CS", "IN PROGRESS")})
    assert client.session.put(f"{client.url}/workitems/{uid}/state", data=claim, headers=headers).status_code == 200
    address = f"{client.url}/workitems/{uid}?transaction-uid={transaction_uid}"
    assert client.session.post(address, data=write_xml(performed()), headers=headers).status_code == 200
    answer = client.retrieve(uid, headers=headers)
    assert answer.headers["Content-Type"] == "application/dicom+xml"
    assert checked(read_xml(answer.content)) == client.dataset(uid)
    assert client.change_state(uid, "COMPLETED", transaction_uid).status_code == 200


def test_strict_bare_and_older_answers(postgres: Postgres) -> None:
    settings = {
        "PYUPSRS_STRICT": "true",
        "PYUPSRS_ANSWER_WITH_ARRAY": "false",
        "PYUPSRS_EMPTY_SEARCH_STATUS": "204",
        "PYUPSRS_WORKERS": "1",
    }
    service = Service(postgres.make_database("strict"), **settings)
    client = Client(service.url)
    try:
        answer = client.create(workitem(T00741210=None))
        assert answer.status_code == 400 and "00741210" in answer.json()["message"]
        uid = client.created()
        assert client.retrieve(uid).json()["00080018"]["Value"] == [uid]
        assert isinstance(client.search().json(), list)
        nothing = client.search("?PatientID=nobody")
        assert (nothing.status_code, nothing.content) == (204, b"")
    finally:
        service.stop()


def test_errors_are_json_and_name_the_method(client: Client) -> None:
    answer = client.session.delete(f"{client.url}/workitems/1.2.3")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST, OPTIONS"
    nothing = requests.get(f"{client.url}/nothing", timeout=30)
    assert nothing.status_code == 404 and nothing.json()["message"]


def test_no_match_as_others_answer_it(postgres: Postgres) -> None:
    service = Service(postgres.make_database("others"), PYUPSRS_EMPTY_SEARCH_STATUS="404", PYUPSRS_WORKERS="1")
    try:
        answer = Client(service.url).search("?PatientID=nobody")
        assert (answer.status_code, answer.json()) == (404, [])
    finally:
        service.stop()


def test_capabilities(client: Client) -> None:
    answer = client.session.options(f"{client.url}/workitems")
    assert answer.headers["Content-Type"] == "application/vnd.sun.wadl+xml"
    assert answer.headers["Allow"] == "GET, POST, OPTIONS"
    root = ElementTree.fromstring(answer.content)
    names = {node.get("id") for node in root.iter("{http://wadl.dev.java.net/2009/02}method")}
    assert {"CreateWorkitem", "UpdateWorkitem", "ChangeWorkitemState", "Subscribe", "OpenNotificationChannel"} <= names
    assert client.session.options(f"{client.url}/workitems/1.2.3/state").headers["Allow"] == "PUT, OPTIONS"
