"""Archives that misbehave: a right status, a line with the reason, nothing passed off as whole, and the next request works."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from dimse.part10 import EXPLICIT
from misbehaving import INSTANCES, PRIVATE_SYNTAX, Misbehaving
from pipeline_services import wait_for
from proxy_server import Proxy, parts_of
from servers import free_port

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(params=["get", "move"])
def awkward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Misbehaving, Proxy]]:
    port = free_port()
    archive = Misbehaving(port)
    settings = {"useCget": request.param == "get", "dicom_port": port, "enableCache": False, "silenceSeconds": 2}
    proxy = Proxy(tmp_path, [(archive.aet, archive.port)], **settings)
    yield archive, proxy
    archive.how = ""
    proxy.stop()
    archive.stop()


def whole(proxy: Proxy, archive: Misbehaving) -> bool:
    """Return whether the study comes whole."""
    answer = proxy.get(f"/studies/{archive.study}", AS_STORED)
    return answer.status_code == 200 and len(parts_of(answer)) == INSTANCES


def open_files(proxy: Proxy) -> list[str]:
    """Return what the proxy has open: files, directories, connections."""
    found = []
    for path in Path(f"/proc/{proxy.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(path))
    return sorted(found)


@pytest.mark.parametrize("how", ["aborts", "stalls", "fails", "no resources", "fewer than announced", "some fail"])
def test_what_cannot_be_completed_is_cut(awkward: tuple[Misbehaving, Proxy], how: str) -> None:
    archive, proxy = awkward
    assert whole(proxy, archive)
    before = open_files(proxy)
    archive.how = how
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        proxy.get(f"/studies/{archive.study}", AS_STORED)
    wait_for(lambda: proxy.said("cut: "))
    archive.how = ""
    assert whole(proxy, archive)
    # After a while associations that nobody uses are released, too: what then is still open has been forgotten.
    wait_for(lambda: len(open_files(proxy)) <= len(before) + 1)
    # The one that is left is for what comes from nobody knows where.
    wait_for(lambda: len(list((proxy.directory / "data/incoming").iterdir())) == 1)


@pytest.mark.parametrize(
    ("how", "status"),
    [("rejects", 502), ("silent at once", 504), ("find fails", 502), ("find breaks off", 502), ("no find", 502)],
)
def test_a_search_is_told_what_is_wrong(awkward: tuple[Misbehaving, Proxy], how: str, status: int) -> None:
    archive, proxy = awkward
    archive.how = how
    # Associations that were made before are of no use for it.
    archive.stop()
    archive.start()
    answer = proxy.get("/studies", "application/dicom+json")
    assert answer.status_code == status, answer.text
    assert archive.aet in answer.json()["message"]
    wait_for(lambda: proxy.said(answer.json()["message"][:60]))
    archive.how = ""
    archive.stop()
    archive.start()
    assert proxy.get("/studies", "application/dicom+json").status_code == 200


def test_fuzzy_matching_is_asked_for_where_it_is_wanted(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    assert "warning" not in proxy.get("/studies?PatientName=Awkwart&fuzzymatching=true").headers
    assert archive.asked_fuzzily
    archive.asked_fuzzily = False
    proxy.get("/studies?PatientName=Awkward")
    assert not archive.asked_fuzzily


def test_an_archive_that_is_down_and_back(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    assert whole(proxy, archive)
    archive.stop()
    for path in ("/studies", f"/studies/{archive.study}", f"/studies/{archive.study}/metadata"):
        assert proxy.get(path).status_code == 502
    assert proxy.get("/health").status_code == 503
    archive.start()
    assert whole(proxy, archive)
    assert proxy.get("/health").status_code == 200


def test_instances_of_another_study_are_not_taken(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    archive.how = "another study"
    assert proxy.get(f"/studies/{archive.study}", AS_STORED).status_code in (404, 502, 503)
    archive.how = ""
    assert whole(proxy, archive)


def test_a_private_sop_class_comes(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    archive.how = "private"
    assert whole(proxy, archive)


@pytest.mark.parametrize(("how", "syntax"), [("more than announced", EXPLICIT), ("unknown syntax", PRIVATE_SYNTAX)])
def test_what_comes_beside_is_passed_on_as_it_is(awkward: tuple[Misbehaving, Proxy], how: str, syntax: str) -> None:
    archive, proxy = awkward
    if proxy.config["useCget"]:
        # What was not proposed can't come over the association that asks.
        return
    archive.how = how
    parts = parts_of(proxy.get(f"/studies/{archive.study}", AS_STORED))
    assert len(parts) == INSTANCES + 1
    assert any(content_type.endswith(f"transfer-syntax={syntax}") for content_type, _ in parts)
    # What can't be decoded is told where it would have to be.
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.5'
    if syntax == PRIVATE_SYNTAX:
        assert proxy.get(f"/studies/{archive.study}", wanted).status_code == 406


def test_who_finds_all_associations_in_use_waits_his_turn(tmp_path: Path) -> None:
    port = free_port()
    archive = Misbehaving(port)
    proxy = Proxy(tmp_path, [(archive.aet, archive.port)], maxAssociations=1, maxWaitingSeconds=3, enableCache=False)
    archive.how = "slow"
    fetching = threading.Thread(target=lambda: proxy.get(f"/studies/{archive.study}", AS_STORED), daemon=True)
    fetching.start()
    wait_for(lambda: archive.retrieved == 1)
    begun = time.monotonic()
    refused = requests.get(f"{proxy.url}/studies", timeout=30)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert time.monotonic() - begun > 2.5
    # As soon as the rest takes less than he would wait.
    wait_for(lambda: requests.get(f"{proxy.url}/studies", timeout=30).status_code == 200)
    fetching.join()
    assert archive.associations <= 1
    proxy.stop()
    archive.stop()


def test_who_goes_away_before_his_turn_has_nothing_fetched(tmp_path: Path) -> None:
    archive = Misbehaving(free_port())
    proxy = Proxy(tmp_path, [(archive.aet, archive.port)], maxAssociations=1, enableCache=False)
    assert whole(proxy, archive)
    archive.how = "slow"
    series = f"{proxy.url}/studies/{archive.study}/series/{archive.series}"
    first, second = (f"{series}/instances/{dataset.SOPInstanceUID}" for dataset in archive.datasets[:2])
    fetching = threading.Thread(target=lambda: requests.get(first, timeout=60), daemon=True)
    fetching.start()
    wait_for(lambda: archive.retrieved == 2)
    with pytest.raises(requests.ReadTimeout):
        requests.get(second, timeout=1)
    fetching.join()
    wait_for(lambda: proxy.said("cancelled") and not requests.get(f"{proxy.url}/status", timeout=30).json()["retrievals"])
    assert archive.retrieved == 2
    proxy.stop()
    archive.stop()


def test_who_goes_away_has_it_cancelled(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    archive.how = "slow"
    with proxy.get(f"/studies/{archive.study}", AS_STORED, stream=True) as answer:
        assert answer.status_code == 200
        next(answer.iter_content(1000))
        # The first instance is here, and the others aren't there yet.
        assert archive.sent < INSTANCES
    proxy.session.close()
    wait_for(lambda: archive.cancelled == 1)
    archive.how = ""
    assert whole(proxy, archive)


def test_many_at_once_share_a_retrieval_and_the_associations(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    archive.how = "slow"
    results: list[bool] = []
    most = 0
    threads = [threading.Thread(target=lambda: results.append(whole(proxy, archive)), daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, archive.associations)
        time.sleep(0.05)
    assert results == [True] * 20
    assert most <= 4
    assert archive.sent <= 2 * INSTANCES


# In a process of its own: pynetdicom can't have so many files open.
SLOW_CLIENTS = """
import socket, sys
open_ones = []
for _ in range(int(sys.argv[2])):
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
    connection.sendall(b"GET /studies HTTP/1.1\\r\\nHost: x\\r\\n")
    open_ones.append(connection)
print("ready", flush=True)
sys.stdin.read()
"""


def test_ten_thousand_slow_clients_leave_room_for_others(awkward: tuple[Misbehaving, Proxy]) -> None:
    archive, proxy = awkward
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(10_000, most - 500)
    command = [sys.executable, "-c", SLOW_CLIENTS, str(proxy.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout and clients.stdin and clients.stdout.readline() == "ready\n"
        assert whole(proxy, archive)
        status = Path(f"/proc/{proxy.process.pid}/status").read_text()
        assert int(status.partition("VmHWM:")[2].split()[0]) < 200_000
        clients.stdin.close()
    assert whole(proxy, archive)
