"""Workers killed and the database restarted in the middle of changes: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import requests
from servers import Postgres, Service
from websockets.exceptions import ConnectionClosed, WebSocketException
from worklist_client import GLOBAL, Client, Dataset, events, new_uid, persist, workitem

WORKITEMS = 60


def heard(client: Client, aetitle: str, count: int) -> list[tuple[int, str, Dataset]]:
    """Return a subscriber's State Reports, over as many connections as it takes; a doublet is told by its Message ID."""
    received: dict[int, tuple[int, str, Dataset]] = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with client.channel(aetitle) as channel:
                while True:
                    event = events(channel, 1, timeout=1)[0]
                    received.setdefault(event[2]["00000110"]["Value"][0], event)
        except TimeoutError:
            reports = [event for event in received.values() if event[0] == 1]
            if len(reports) >= count:
                return reports
        except (WebSocketException, OSError):
            continue
    raise AssertionError(f"{len(received)} events of {count}")


def workers(service: Service) -> list[int]:
    """Return the processes that answer requests."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    found = []
    for child in map(int, children):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # One that has ended, and wasn't waited for yet, has none.
            if Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def kill_workers(service: Service, postgres: Postgres) -> None:
    for worker in workers(service):
        os.kill(worker, signal.SIGKILL)
        time.sleep(0.3)


def restart_database(service: Service, postgres: Postgres) -> None:
    postgres.stop()
    time.sleep(0.5)
    postgres.start()


def reload(service: Service, postgres: Postgres) -> None:
    service.process.send_signal(signal.SIGHUP)


def test_channels_open_at_once_after_the_database_was_restarted(postgres: Postgres) -> None:
    """Connections that the restart has ended are still in the workers' pools: nobody is refused for that."""
    service = Service(postgres.make_database("channels"), PYUPSRS_WORKERS="3")
    client = Client(service.url)
    try:
        for _ in range(3):
            with ThreadPoolExecutor(16) as threads:
                assert all(answer.status_code in (200, 204) for answer in threads.map(lambda _: client.search(), range(64)))
            restart_database(service, postgres)
            for _ in range(12):
                with client.channel(f"C{new_uid()[-12:]}"):
                    pass
    finally:
        service.stop()


@pytest.mark.parametrize("fault", [kill_workers, restart_database, reload])
def test_changes_under_faults(postgres: Postgres, fault: Callable[[Service, Postgres], None]) -> None:
    service = Service(postgres.make_database(fault.__name__), PYUPSRS_WORKERS="3")
    url = service.url
    Client(url).subscribe(GLOBAL, "WATCH")
    uids = [new_uid() for _ in range(WORKITEMS)]

    def perform(uid: str) -> None:
        client, transaction_uid = Client(url), new_uid()
        persist(lambda: client.create(workitem(), uid), 201, 409)
        persist(lambda: client.change_state(uid, "IN PROGRESS", transaction_uid), 200, 409)

    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            fault(service, postgres)
            # On a busy machine a worker takes longer to come than the next fault would.
            persist(lambda: requests.get(f"{url}/health", timeout=30), 200)
            stop.wait(1.5)

    disturber = threading.Thread(target=disturb, daemon=True)
    disturber.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(perform, uids))
    finally:
        stop.set()
        disturber.join()
    try:
        client = Client(url)
        persist(lambda: client.search("?limit=1"), 200)
        assert set(client.found("?00741000=IN%20PROGRESS&limit=1000")) == set(uids)
        received = [(about, dataset["00741000"]["Value"][0]) for _, about, dataset in heard(client, "WATCH", 2 * WORKITEMS)]
        for uid in uids:
            assert [state for about, state in received if about == uid] == ["SCHEDULED", "IN PROGRESS"]
    finally:
        service.stop()


def test_a_worker_that_is_killed_while_it_starts_is_replaced_at_once(postgres: Postgres) -> None:
    """Its supervisor gives a slow one a minute to answer, and would give the same to a dead one."""
    service = Service(postgres.make_database("starting"), PYUPSRS_WORKERS="1")
    try:
        for _ in range(2):
            [worker] = workers(service)
            os.kill(worker, signal.SIGKILL)
            starting = replaced(service, worker)
            os.kill(starting, signal.SIGSTOP)
            # By then it is asked whether it is there.
            time.sleep(2)
            os.kill(starting, signal.SIGKILL)
            replaced(service, starting)
            persist(lambda: requests.get(f"{service.url}/health", timeout=30), 200)
    finally:
        service.stop()


def replaced(service: Service, worker: int) -> int:
    """Return the worker that has come in place of one; fail where none does in half of the time that a slow one is given."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        others = [other for other in workers(service) if other != worker]
        if others:
            return others[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing came in place of {worker}")


def test_a_rolling_restart_refuses_nobody(postgres: Postgres) -> None:
    service = Service(postgres.make_database("rolling"), PYUPSRS_WORKERS="2")
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                # A connection for each, as nginx has it.
                statuses.append(requests.get(f"{service.url}/workitems?limit=1", timeout=30).status_code)
            except requests.ConnectionError:
                statuses.append(0)

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(2):
            before = set(workers(service))
            service.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 180
            while set(workers(service)) & before or len(workers(service)) < 2:
                assert time.monotonic() < deadline, "the former workers never ended, or new ones never came"
                time.sleep(0.2)
    finally:
        stop.set()
        for thread in asking:
            thread.join()
        service.stop()
    assert len(statuses) > 50 and set(statuses) == {200}


def test_metrics_forget_the_channels_of_a_killed_worker(postgres: Postgres) -> None:
    service = Service(postgres.make_database("gauges"), PYUPSRS_WORKERS="1")
    try:
        with Client(service.url).channel("WATCH") as channel:
            assert "\npyupsrs_channels 1.0\n" in requests.get(f"{service.url}/metrics", timeout=30).text
            os.kill(workers(service)[0], signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                channel.recv(timeout=30)
        persist(lambda: requests.get(f"{service.url}/health", timeout=30), 200)
        assert "\npyupsrs_channels 0.0\n" in requests.get(f"{service.url}/metrics", timeout=30).text
    finally:
        service.stop()


def test_without_the_database_it_says_so_and_comes_back(postgres: Postgres) -> None:
    service = Service(postgres.make_database("away"), PYUPSRS_WORKERS="1", PYUPSRS_DATABASE_PATIENCE="3")
    client = Client(service.url)
    uid = client.created()
    postgres.stop()
    try:
        assert requests.get(f"{service.url}/health", timeout=30).status_code == 503
        answer = client.retrieve(uid, timeout=60)
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "5"
    finally:
        postgres.start()
    try:
        persist(lambda: client.retrieve(uid), 200)
    finally:
        service.stop()


def test_a_search_that_takes_the_database_too_long_is_ended(postgres: Postgres) -> None:
    """And is not asked again until the patience for a database that is away has ended, too."""
    uri = postgres.make_database("slow")
    service = Service(uri, PYUPSRS_WORKERS="1", PYUPSRS_STATEMENT_SECONDS="1")
    try:
        with psycopg.connect(uri) as other:
            other.execute("LOCK TABLE workitems IN ACCESS EXCLUSIVE MODE")
            begun = time.monotonic()
            answer = requests.get(f"{service.url}/workitems", timeout=60)
            assert (answer.status_code, "too long" in answer.text) == (503, True)
            assert time.monotonic() - begun < 15
            other.rollback()
        assert requests.get(f"{service.url}/workitems", timeout=60).status_code == 200
    finally:
        service.stop()
