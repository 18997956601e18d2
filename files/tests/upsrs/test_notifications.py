"""Subscriptions and the events that they bring, over WebSockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
import requests
from servers import Postgres, Service
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from worklist_client import (
    FILTERED,
    GLOBAL,
    Client,
    code,
    discontinued,
    element,
    events,
    new_aetitle,
    new_uid,
    no_more,
    performed,
    warning,
)


@pytest.fixture
def aetitle(client: Client) -> Iterator[str]:
    """A subscriber whose subscriptions end with the test."""
    made = new_aetitle()
    yield made
    client.unsubscribe(GLOBAL, made)


@pytest.fixture
def channel(client: Client, aetitle: str) -> Iterator[ClientConnection]:
    with client.channel(aetitle) as made:
        yield made


def states(received: list[tuple[int, str, dict[str, object]]]) -> list[str]:
    return [dataset["00741000"]["Value"][0] for kind, _, dataset in received if kind == 1]  # type: ignore[index]


def by_hand(client: Client, aetitle: str) -> socket.socket:
    """Open a channel on which nothing is read or answered by itself."""
    host, _, port = client.url.removeprefix("http://").partition(":")
    request = (
        f"GET /ws/subscribers/{aetitle} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    made = socket.create_connection((host, int(port)), timeout=30)
    made.sendall(request.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += made.recv(1)
    assert b" 101 " in head
    return made


def test_subscribe_names_the_channel_as_the_client_sees_it(client: Client, aetitle: str) -> None:
    uid = client.created()
    answer = client.subscribe(uid, aetitle)
    assert (answer.status_code, answer.content, warning(answer)) == (201, b"", None)
    assert answer.headers["Content-Location"] == f"ws://127.0.0.1:{client.url.rsplit(':', 1)[1]}/ws/subscribers/{aetitle}"
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example:9443", "X-Forwarded-Prefix": "/dicom-web"}
    behind = client.session.post(f"{client.url}/workitems/{uid}/subscribers/{aetitle}", headers=headers)
    assert behind.headers["Content-Location"] == f"wss://pacs.example:9443/dicom-web/ws/subscribers/{aetitle}"


def test_one_workitem_from_its_first_event_to_its_last(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid, other, transaction_uid = client.created(), client.created(), new_uid()
    assert client.subscribe(uid, aetitle).status_code == 201
    (first,) = events(channel, 1)
    assert first[:2] == (1, uid)
    assert first[2]["00741000"] == {"vr": "CS", "Value": ["SCHEDULED"]} and first[2]["00404041"]["Value"] == ["READY"]
    assert first[2]["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"] and 0 < first[2]["00000110"]["Value"][0] < 65536

    client.change_state(other, "IN PROGRESS", new_uid())
    client.update(uid, {"00404041": element("CS", "INCOMPLETE")})
    client.update(uid, {"00404025": element("SQ", code("CT1"))})
    client.change_state(uid, "IN PROGRESS", transaction_uid)
    progress = {"00741002": element("SQ", {"00741004": element("DS", 50), "00741006": element("ST", "half")})}
    client.update(uid, progress, transaction_uid)
    client.update(uid, progress, transaction_uid)
    client.update(uid, performed(), transaction_uid)
    client.change_state(uid, "COMPLETED", transaction_uid)
    received = events(channel, 5)
    assert [(kind, about) for kind, about, _ in received] == [(1, uid), (5, uid), (1, uid), (3, uid), (1, uid)]
    assert received[0][2]["00404041"]["Value"] == ["INCOMPLETE"]
    assert received[1][2]["00404025"]["Value"][0]["00080100"]["Value"] == ["CT1"]
    assert received[3][2]["00741002"]["Value"][0]["00741004"]["Value"] == [50]
    assert states(received) == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert no_more(channel)


def test_assigned_tells_performers(client: Client, aetitle: str, channel: ClientConnection) -> None:
    client.subscribe(GLOBAL, aetitle)
    performer = {"00404009": element("SQ", code("SMITH")), "00404036": element("LO", "Radiology")}
    uid = client.created(T00404034=element("SQ", performer))
    report, assigned = events(channel, 2)
    assert (report[0], assigned[0], assigned[1]) == (1, 5, uid)
    assert assigned[2]["00404009"]["Value"][0]["00080100"]["Value"] == ["SMITH"]
    assert assigned[2]["00404036"]["Value"] == ["Radiology"]


def test_cancel_requested_reaches_the_performer(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid, _ = client.claimed()
    client.subscribe(uid, aetitle)
    body = {
        "00741238": element("LT", "patient left"),
        "0074100E": element("SQ", code("110514", "DCM")),
        "0074100A": element("UR", "tel:+123"),
        "0074100C": element("LO", "Desk"),
    }
    answer = client.request_cancellation(uid, body, "?requester=DESK1")
    assert answer.status_code == 202 and warning(answer) is None
    _, (kind, about, event) = events(channel, 2)
    assert (kind, about) == (2, uid)
    assert event["00741236"] == {"vr": "AE", "Value": ["DESK1"]}
    assert {tag: event[tag] for tag in body} == body
    assert client.dataset(uid)["00741000"]["Value"] == ["IN PROGRESS"]
    client.request_cancellation(uid)
    assert events(channel, 1)[0][2]["00741236"]["Value"] == ["PYUPSRS"]
    client.session.post(f"{client.url}/workitems/{uid}/cancelrequest", headers={"X-Remote-User": "radiology"})
    assert events(channel, 1)[0][2]["00741236"]["Value"] == ["radiology"]


def test_cancellation_of_a_scheduled_workitem_reports_both_states(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid = client.created()
    client.subscribe(uid, aetitle)
    client.request_cancellation(uid, {"00741238": element("LT", "a mistake")})
    received = events(channel, 3)
    assert states(received) == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
    assert received[2][2]["00741238"]["Value"] == ["a mistake"]
    assert received[2][2]["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]


def test_canceled_report_has_the_performers_reason(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid, transaction_uid = client.claimed()
    client.subscribe(uid, aetitle)
    client.update(uid, discontinued(), transaction_uid)
    client.change_state(uid, "CANCELED", transaction_uid)
    report = events(channel, 2)[1][2]
    assert report["00741000"]["Value"] == ["CANCELED"] and report["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]


def test_global_subscription_without_a_lock(client: Client, aetitle: str, channel: ClientConnection) -> None:
    before = client.created()
    assert client.subscribe(GLOBAL, aetitle).status_code == 201
    assert no_more(channel)
    client.change_state(before, "IN PROGRESS", new_uid())
    assert states(events(channel, 1)) == ["IN PROGRESS"]
    later = client.created()
    assert events(channel, 1)[0][:2] == (1, later)


def test_global_subscription_leaves_out_what_is_final(client: Client, aetitle: str) -> None:
    uid, _ = client.finished("COMPLETED")
    client.subscribe(GLOBAL, aetitle)
    assert client.unsubscribe(uid, aetitle).status_code == 404
    client.subscribe(GLOBAL, aetitle, "?deletionlock=true")
    assert client.unsubscribe(uid, aetitle).status_code == 200


def test_global_subscription_with_a_lock(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid = client.created()
    count = len(client.found("?limit=1000"))
    assert client.subscribe(GLOBAL, aetitle, "?deletionlock=true").status_code == 201
    received = events(channel, count)
    assert uid in {about for _, about, _ in received} and len({about for _, about, _ in received}) == count
    client.subscribe(GLOBAL, aetitle, "?deletionlock=true")
    assert no_more(channel)


def test_suspended_global_subscription(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid = client.created()
    client.subscribe(GLOBAL, aetitle)
    assert client.suspend(GLOBAL, aetitle).status_code == 200
    client.created()
    assert no_more(channel)
    client.change_state(uid, "IN PROGRESS", new_uid())
    assert events(channel, 1)[0][1] == uid
    assert client.unsubscribe(GLOBAL, aetitle).status_code == 200


def test_unsubscribe_globally_removes_everything(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid = client.created()
    client.subscribe(uid, aetitle)
    client.subscribe(GLOBAL, aetitle)
    events(channel, 1)
    assert client.unsubscribe(GLOBAL, aetitle).status_code == 200
    client.change_state(uid, "IN PROGRESS", new_uid())
    client.created()
    assert no_more(channel)
    assert client.unsubscribe(GLOBAL, aetitle).status_code == 404


def test_unsubscribe_from_one(client: Client, aetitle: str, channel: ClientConnection) -> None:
    uid = client.created()
    client.subscribe(uid, aetitle)
    events(channel, 1)
    assert client.unsubscribe(uid, aetitle).status_code == 200
    client.change_state(uid, "IN PROGRESS", new_uid())
    assert no_more(channel)
    assert client.unsubscribe(uid, aetitle).status_code == 404
    assert client.unsubscribe(new_uid(), aetitle).status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        "filter=PatientID={0},00741200=HIGH",
        "filter=00100020%3D{0}%2C00741200%3DHIGH",
        "PatientID={0}&00741200=HIGH",
        "deletionlock=false&filter=ScheduledStationNameCodeSequence.CodeValue=CT1,PatientID={0},00741200=HIGH",
        "filter=PatientID={0}&filter=00741200=HIGH",
    ],
)
def test_filtered_subscription(client: Client, aetitle: str, channel: ClientConnection, form: str) -> None:
    patient = f"P,{aetitle}=1"
    station = element("SQ", code("CT1"))
    now = client.created(T00100020=element("LO", patient), T00741200=element("CS", "HIGH"), T00404025=station)
    # A comma and an equals sign of a value are encoded; where the whole filter is encoded, twice.
    named = quote(patient, safe="")
    named = quote(named, safe="") if "%3D" in form else named
    assert client.subscribe(FILTERED, aetitle, f"?{form.format(named)}").status_code == 201
    client.created()
    later = client.created(T00100020=element("LO", patient), T00741200=element("CS", "HIGH"), T00404025=station)
    assert [event[:2] for event in events(channel, 2)] == [(1, later), (5, later)]
    changed = client.created(T00100020=element("LO", patient), T00404025=station)
    assert no_more(channel)
    client.update(changed, {"00741200": element("CS", "HIGH")})
    assert [event[:2] for event in events(channel, 2)] == [(1, changed), (5, changed)]
    client.change_state(now, "IN PROGRESS", new_uid())
    assert events(channel, 1)[0][:2] == (1, now)
    assert client.suspend(FILTERED, aetitle).status_code == 200
    client.created(T00100020=element("LO", patient), T00741200=element("CS", "HIGH"))
    assert no_more(channel)
    assert client.unsubscribe(FILTERED, aetitle).status_code == 200
    client.change_state(later, "IN PROGRESS", new_uid())
    assert no_more(channel)


@pytest.mark.parametrize("query", ["", "?filter=", "?filter=PatientID", "?filter=NoSuch=1", "?deletionlock=perhaps&PatientID=1"])
def test_filtered_subscription_refused(client: Client, aetitle: str, query: str) -> None:
    assert client.subscribe(FILTERED, aetitle, query).status_code == 400


def test_subscribe_refused(client: Client, aetitle: str) -> None:
    assert client.subscribe(new_uid(), aetitle).status_code == 404
    assert client.subscribe("1.2.x", aetitle).status_code == 400
    assert client.subscribe(GLOBAL, "SEVENTEEN-LETTERS").status_code == 400
    assert client.subscribe(GLOBAL, "%20").status_code == 400
    assert client.subscribe(GLOBAL, aetitle, "?deletionlock=yes").status_code == 400
    assert client.subscribe(GLOBAL, aetitle, "?PatientID=1").status_code == 400
    assert client.suspend(GLOBAL, aetitle).status_code == 404
    assert client.suspend(FILTERED, aetitle).status_code == 404
    assert client.suspend(client.created(), aetitle).status_code == 400


def test_an_ae_title_with_a_slash_and_a_space(client: Client) -> None:
    aetitle = f"A/B {new_aetitle()[:6]}"
    uid = client.created()
    answer = client.subscribe(uid, quote(aetitle, safe=""))
    assert answer.headers["Content-Location"].endswith(f"/ws/subscribers/{quote(aetitle, safe='')}")
    with client.channel(quote(aetitle, safe="")) as channel:
        assert events(channel, 1)[0][1] == uid
    assert client.unsubscribe(uid, quote(aetitle, safe="")).status_code == 200


def test_a_subscriber_that_was_away_gets_what_it_missed_once_and_in_order(client: Client, aetitle: str) -> None:
    client.subscribe(GLOBAL, aetitle)
    uids = [client.created() for _ in range(150)]
    with client.channel(aetitle) as channel:
        received = events(channel, 150)
        assert [about for _, about, _ in received] == uids
        # It stays until its WebSocket has answered for the last of them.
        assert no_more(channel)
    uids = [client.created() for _ in range(5)]
    with client.channel(aetitle) as channel:
        assert [about for _, about, _ in events(channel, 5, after=received)] == uids
        assert no_more(channel)
    with client.channel(aetitle) as channel:
        assert no_more(channel)


def test_what_was_not_acknowledged_comes_again_with_its_message_id(client: Client, aetitle: str) -> None:
    """A client that takes events but whose connection breaks before its pong."""
    client.subscribe(GLOBAL, aetitle)
    uid = client.created()
    with by_hand(client, aetitle) as taken, taken.makefile("rb") as stream:
        # A frame of 126 to 65535 bytes has its length in the third and fourth.
        frame = json.loads(stream.read(int.from_bytes(stream.read(4)[2:], "big")))
    with client.channel(aetitle) as channel:
        (again,) = events(channel, 1)
        assert again[1] == uid and again[2] == frame
        assert no_more(channel)


def test_a_second_connection_takes_the_channel(client: Client, aetitle: str) -> None:
    client.subscribe(GLOBAL, aetitle)
    with client.channel(aetitle) as former, client.channel(aetitle) as latter:
        uid = client.created()
        assert events(latter, 1)[0][1] == uid
        with pytest.raises(ConnectionClosed) as closed:
            former.recv(timeout=30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4000


def test_services_of_several_hosts_are_one_worklist(postgres: Postgres) -> None:
    uri = postgres.make_database("hosts")
    one, other = (Service(uri, PYUPSRS_WORKERS="1") for _ in range(2))
    first, second = Client(one.url), Client(other.url)
    try:
        first.subscribe(GLOBAL, "WATCH")
        with second.channel("WATCH") as channel:
            uids = [client.created() for client in (first, second) * 10]
            received = events(channel, 20)
            assert [about for _, about, _ in received] == uids
            with first.channel("WATCH") as newer:
                uids = [client.created() for client in (first, second) * 10]
                assert [about for _, about, _ in events(newer, 20, after=received)] == uids
            with pytest.raises(ConnectionClosed):
                channel.recv(timeout=30)
        assert set(first.found("")) == set(second.found(""))
    finally:
        one.stop()
        other.stop()


def test_a_wrong_ae_title_has_no_channel(client: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        client.channel("SEVENTEEN-LETTERS")
    assert refused.value.response.status_code == 400


def test_a_client_that_never_reads_is_broken_off_and_loses_nothing(postgres: Postgres) -> None:
    service = Service(postgres.make_database("slow"), PYUPSRS_ACKNOWLEDGE_SECONDS="2")
    client, aetitle = Client(service.url), new_aetitle()
    try:
        client.subscribe(GLOBAL, aetitle)
        with by_hand(client, aetitle):
            uids = [client.created() for _ in range(50)]
            deadline = time.monotonic() + 180
            while "broken off" not in service.log.read_text():
                assert time.monotonic() < deadline, service.log.read_text()[-2000:]
                time.sleep(0.2)
        with client.channel(aetitle) as again:
            assert [about for _, about, _ in events(again, 50)] == uids
    finally:
        service.stop()


def test_deletion_after_the_retention_and_its_lock(postgres: Postgres) -> None:
    uri = postgres.make_database("retention")
    service = Service(uri, PYUPSRS_WORKERS="1")
    client = Client(service.url)
    kept, _ = client.finished("COMPLETED")
    gone, _ = client.finished("CANCELED")
    scheduled = client.created()
    client.subscribe(kept, "HOLDER", "?deletionlock=true")
    client.subscribe(gone, "HOLDER")
    service.stop()
    with psycopg.connect(uri) as connection:
        connection.execute("UPDATE workitems SET finished_at = now() - interval '2 days' WHERE finished_at IS NOT NULL")
    service = Service(uri, PYUPSRS_WORKERS="1", PYUPSRS_RETENTION_DAYS="1", PYUPSRS_DELETION_LOCKS="false")
    client = Client(service.url)
    try:
        deadline = time.monotonic() + 180
        while client.retrieve(gone).status_code != 410:
            assert time.monotonic() < deadline, "what was finished two days ago is never removed"
            time.sleep(0.2)
        assert client.retrieve(kept).status_code == 200 and client.retrieve(scheduled).status_code == 200
        answer = client.subscribe(kept, "OTHER", "?deletionlock=true")
        assert (answer.status_code, warning(answer)) == (201, "Deletion Lock not granted.")
    finally:
        service.stop()


def test_restarts_are_told_and_strangers_refused(postgres: Postgres) -> None:
    settings = {"PYUPSRS_WORKERS": "1", "PYUPSRS_SUBSCRIBERS": "KNOWN,OTHER", "PYUPSRS_STATUS_SUBSCRIBERS": "LISTED"}
    service = Service(postgres.make_database("restart"), **settings)
    client = Client(service.url)
    try:
        assert client.subscribe(GLOBAL, "STRANGER").status_code == 403
        assert client.subscribe(GLOBAL, "KNOWN").status_code == 201
        service.stop()
        service.start()
        for aetitle, expected in (("KNOWN", ["GOING DOWN", "RESTARTED"]), ("LISTED", ["RESTARTED", "GOING DOWN", "RESTARTED"])):
            with client.channel(aetitle) as channel:
                received = events(channel, len(expected))
                assert {(kind, about) for kind, about, _ in received} == {(4, GLOBAL)}
                assert [dataset["00741242"]["Value"][0] for _, _, dataset in received] == expected
                assert received[-1][2]["00741244"]["Value"] == received[-1][2]["00741246"]["Value"] == ["WARM START"]
                assert no_more(channel)
    finally:
        service.stop()


def test_what_a_subscriber_says_is_dropped(client: Client, aetitle: str, channel: ClientConnection) -> None:
    for number in range(200):
        channel.send(json.dumps({"number": number}))
    client.subscribe(GLOBAL, aetitle)
    uid = client.created()
    assert events(channel, 1)[0][1] == uid


def test_metrics_count_events_and_workitems(service: Service, client: Client) -> None:
    client.created()
    text = requests.get(f"{service.url}/metrics", timeout=30).text
    assert 'pyupsrs_requests_total{status="201",transaction="create"}' in text
    assert 'pyupsrs_workitems{state="SCHEDULED"}' in text and "pyupsrs_events_waiting" in text and "pyupsrs_channels" in text
