"""A thousand changes while everything is disturbed that can be: nothing lost, nothing doubled."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hosts import Host
from websockets.exceptions import WebSocketException
from worklist_client import GLOBAL, Client, Dataset, element, events, new_aetitle, new_uid, no_more, performed, persist, workitem

CHANGES = 1000
STATES = ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


@pytest.fixture
def client(host: Host) -> Client:
    return Client(f"https://{host.address}:9443/dicom-web")


class Subscriber(threading.Thread):
    """Keeps its channel open over all that happens, and every event once, told by its Message ID."""

    def __init__(self, client: Client, aetitle: str) -> None:
        super().__init__(daemon=True)
        self.client, self.aetitle = client, aetitle
        self.received: dict[int, tuple[int, str, Dataset]] = {}
        self.connections = 0
        self.doublets = 0
        self.stop = threading.Event()

    def __enter__(self) -> Subscriber:
        assert self.client.subscribe(GLOBAL, self.aetitle).status_code == 201
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()
        self.client.unsubscribe(GLOBAL, self.aetitle)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with self.client.channel(self.aetitle) as channel:
                    self.connections += 1
                    while not self.stop.is_set():
                        for event in events(channel, 1, timeout=1):
                            number = event[2]["00000110"]["Value"][0]
                            self.doublets += number in self.received
                            self.received.setdefault(number, event)
            except TimeoutError:
                continue
            except (WebSocketException, OSError):
                time.sleep(0.2)

    def reports(self) -> list[tuple[str, str]]:
        return [(about, dataset["00741000"]["Value"][0]) for kind, about, dataset in list(self.received.values()) if kind == 1]


KILL_WORKERS = "pkill -KILL -P $(systemctl show --property=MainPID --value pyupsrs.service)"
FAULTS = [
    KILL_WORKERS,
    "systemctl restart postgresql@17-main.service",
    "systemctl reload pyupsrs.service",
    "systemctl restart pyupsrs.service",
    "systemctl kill --signal=KILL --kill-whom=all pyupsrs.service",
    "systemctl kill --signal=KILL --kill-whom=all postgresql@17-main.service; systemctl restart postgresql@17-main.service",
    "systemctl reload nginx.service",
]


class Disturber(threading.Thread):
    """Disturbs a host with one fault after the other, until it is told to stop."""

    def __init__(self, host: Host, client: Client) -> None:
        super().__init__(daemon=True)
        self.host, self.client = host, client
        self.faults = 0
        self.stop = threading.Event()

    def __enter__(self) -> Disturber:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()

    def run(self) -> None:
        while not self.stop.is_set():
            self.host.run(FAULTS[self.faults % len(FAULTS)])
            self.faults += 1
            # On a busy machine a worker takes longer to come than the next fault would.
            persist(lambda: self.client.search("?limit=1"), 200)
            self.stop.wait(1)


def test_a_thousand_changes_under_faults(host: Host, client: Client) -> None:
    uids = [new_uid() for _ in range(CHANGES // 4)]

    def perform(uid: str) -> None:
        own, transaction_uid = Client(client.url), new_uid()
        persist(lambda: own.create(workitem(), uid), 201, 409)
        persist(lambda: own.change_state(uid, "IN PROGRESS", transaction_uid), 200, 409)
        persist(lambda: own.update(uid, performed(), transaction_uid), 200)
        persist(lambda: own.change_state(uid, "COMPLETED", transaction_uid), 200)
        time.sleep(0.1)

    with Subscriber(client, new_aetitle()) as subscriber:
        with Disturber(host, client) as disturber, ThreadPoolExecutor(4) as pool:
            list(pool.map(perform, uids))
            # On a busy machine the faults take longer than the changes.
            while disturber.faults < len(FAULTS) and disturber.is_alive():
                more = [new_uid() for _ in range(8)]
                list(pool.map(perform, more))
                uids += more
        assert disturber.faults >= len(FAULTS), "the changes were over before every fault had its turn"
        persist(lambda: client.search("?limit=1"), 200)
        assert {client.dataset(uid)["00741000"]["Value"][0] for uid in uids} == {"COMPLETED"}
        deadline = time.monotonic() + 60
        while len(subscriber.reports()) < 3 * len(uids) and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(1)
        reports = subscriber.reports()
        assert {uid: [state for about, state in reports if about == uid] for uid in uids} == dict.fromkeys(uids, STATES)
        assert len(reports) == 3 * len(uids)
        assert subscriber.connections > 3


def workers(host: Host) -> set[str]:
    return set(host.run("pgrep -P $(systemctl show --property=MainPID --value pyupsrs.service) || true").split())


@pytest.mark.parametrize("command", ["systemctl restart pyupsrs.service", "systemctl reload pyupsrs.service"])
def test_a_restart_refuses_nobody(host: Host, client: Client, command: str) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        own = Client(client.url)
        while not stop.is_set():
            try:
                statuses.append(own.create(workitem()).status_code)
            except requests.ConnectionError:
                statuses.append(0)
            time.sleep(0.02)

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        deadline = time.monotonic() + 120
        for _ in range(2):
            former = workers(host)
            host.run(command)
            # A reload goes on behind its command: each worker closes its channels when its turn has come.
            while not (now := workers(host)) or now & former:
                assert time.monotonic() < deadline, f"still there: {now & former}"
                time.sleep(0.2)
        while len(statuses) <= 100 and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert len(statuses) > 100 and set(statuses) == {201}


def test_an_operator_hears_of_restarts(host: Host, client: Client) -> None:
    with client.channel("OPERATOR") as channel:
        while not no_more(channel, 1):
            pass
        host.run("systemctl restart pyupsrs.service")
    with client.channel("OPERATOR") as channel:
        said = [dataset["00741242"]["Value"][0] for _, _, dataset in events(channel, 2)]
    assert said == ["GOING DOWN", "RESTARTED"]


def test_a_database_that_is_away_is_told_and_nothing_is_half_done(host: Host, client: Client) -> None:
    uid = client.created()
    host.run("systemctl stop postgresql@17-main.service")
    try:
        answer = client.update(uid, {"00741204": element("LO", "changed")})
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    finally:
        host.run("systemctl start postgresql@17-main.service")
    persist(lambda: client.retrieve(uid), 200)
    assert client.dataset(uid)["00741204"]["Value"] == ["Read the study"]


def test_two_performers_through_nginx(client: Client) -> None:
    def claim(uid: str) -> int:
        return Client(client.url).change_state(uid, "IN PROGRESS", new_uid()).status_code

    with ThreadPoolExecutor(6) as pool:
        for _ in range(10):
            assert sorted(pool.map(claim, [client.created()] * 6)) == [200] + [400] * 5
