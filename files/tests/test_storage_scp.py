"""The Storage SCP against pynetdicom, and against peers that don't keep to the protocol."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from dimse.storage_scp import StorageSCP
from dimse.upper_layer import Begun
from hypothesis import example, given
from hypothesis import strategies as st
from pipeline_services import wait_for
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification
from raw_dimse import fragments_of_a_command, request, too_many_contexts
from servers import SOURCES, free_port

PRIVATE_CLASS = "1.2.826.0.1.3680043.2.1143.9999"


class Stored:
    """What came, and what broke off."""

    def __init__(self) -> None:
        self.whole: list[tuple[str, str, bytes]] = []
        self.broken = 0
        self.status = 0

    def begin(self, begun: Begun) -> Arrival:
        return Arrival(self, begun.sop_class, begun.syntax)


class Arrival:
    def __init__(self, stored: Stored, sop_class: str, syntax: str) -> None:
        self.stored, self.sop_class, self.syntax = stored, sop_class, syntax
        self.content = b""

    def write(self, part: memoryview) -> None:
        self.content += part

    def finish(self) -> int:
        self.stored.whole.append((self.sop_class, self.syntax, self.content))
        return self.stored.status

    def abandon(self) -> None:
        self.stored.broken += 1


PORT, IMPATIENT_PORT = free_port(), free_port()
STORED = Stored()


@pytest.fixture(scope="module", autouse=True)
def scp() -> Iterator[None]:
    StorageSCP("RECEIVER", ("FRIEND",), STORED.begin, seconds=60, most_associations=3).listen("127.0.0.1", PORT)
    StorageSCP("RECEIVER", ("FRIEND",), STORED.begin, seconds=1).listen("127.0.0.1", IMPATIENT_PORT)
    yield


@pytest.fixture
def stored() -> Stored:
    STORED.__init__()  # type: ignore[misc]
    return STORED


def associate(called: str = "RECEIVER", calling: str = "FRIEND", pdu: int = 16384) -> Association:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.maximum_pdu_size = pdu
    contexts = [build_context(Verification), build_context(PRIVATE_CLASS, JPEG2000Lossless)]
    contexts.append(build_context(CTImageStorage, ExplicitVRLittleEndian))
    return entity.associate("127.0.0.1", PORT, contexts=contexts, ae_title=called)


def dataset(size: int, sop_class: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid(prefix=None)
    made.add_new(0x00091010, "OB", os.urandom(size))
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    return made


def is_alive() -> bool:
    association = associate()
    if not association.is_established:
        return False
    status = association.send_c_echo().Status
    association.release()
    return int(status) == 0


@pytest.mark.parametrize("size", [0, 1000, 131_072, 3_000_000])
def test_a_dataset_comes_byte_for_byte(stored: Stored, size: int) -> None:
    association = associate()
    sent = dataset(size)
    assert association.send_c_store(sent).Status == 0
    association.release()
    ((sop_class, syntax, content),) = stored.whole
    assert (sop_class, syntax) == (CTImageStorage, ExplicitVRLittleEndian)
    assert sent[0x00091010].value in content and not stored.broken


def test_any_class_and_syntax_is_taken_as_it_is(stored: Stored) -> None:
    association = associate()
    for number in range(5):
        assert association.send_c_store(dataset(number * 2, PRIVATE_CLASS, JPEG2000Lossless)).Status == 0
    association.release()
    assert [entry[:2] for entry in stored.whole] == [(PRIVATE_CLASS, JPEG2000Lossless)] * 5


def test_a_status_is_passed_on(stored: Stored) -> None:
    stored.status = 0xA700
    association = associate()
    assert association.send_c_store(dataset(10)).Status == 0xA700
    association.release()


@pytest.mark.parametrize(("called", "calling", "reason"), [("OTHER", "FRIEND", 7), ("RECEIVER", "STRANGER", 3)])
def test_others_are_rejected_with_the_reason(called: str, calling: str, reason: int) -> None:
    # By bytes (PS3.8 9.3.4): of a busy machine's pynetdicom it can't be told how an association ended.
    answer = told(request(called, calling))
    assert (answer[0], answer[9]) == (3, reason)


def test_beyond_its_places_it_rejects_for_now() -> None:
    wait_for(is_alive)
    kept = []
    for _ in range(3):
        wait_for(lambda: kept.append(associate()) or kept[-1].is_established)  # type: ignore[func-returns-value]
    try:
        answer = told(request("RECEIVER"))
        assert (answer[0], answer[7]) == (3, 2)
    finally:
        for association in kept:
            if association.is_established:
                association.release()
    wait_for(is_alive)


def test_several_at_once(stored: Stored) -> None:
    def send() -> None:
        association = associate()
        for _ in range(10):
            assert association.send_c_store(dataset(50_000)).Status == 0
        association.release()

    threads = [threading.Thread(target=send, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored.whole) == 30


def told(*parts: bytes, port: int = PORT) -> bytes:
    """Say something to the SCP, and return what it answers until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            raise
        except OSError:
            pass
        return answer


@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
@example([struct.pack(">BxI", 4, 0xFFFFFFFF)], True)
@example([struct.pack(">BxI", 4, 6) + struct.pack(">IBB", 0xFFFFFFFF, 1, 3)], True)
@example([struct.pack(">BxI", 4, 6) + struct.pack(">IBB", 2, 99, 3)], True)
@example([struct.pack(">BxI", 4, 8) + struct.pack(">IBB", 4, 1, 2) + b"xx"], True)
@example([struct.pack(">BxI", 1, 0xFFFFFFFF)], False)
@example([struct.pack(">BxI", 1, 70) + b"\0" * 70], False)
def test_nonsense_ends_its_own_association_alone(parts: list[bytes], has_asked: bool) -> None:
    answer = told(*([request("RECEIVER")] if has_asked else []), *parts)
    # Accepted, rejected (for now, until the place of the one before is free again), aborted, or cut off.
    assert len(answer) < 1000 and answer[:1] in (b"\x02", b"\x03", b"\x07", b"")


def test_after_nonsense_it_still_serves(stored: Stored) -> None:
    wait_for(is_alive)
    association = associate()
    assert association.send_c_store(dataset(10)).Status == 0
    association.release()


@pytest.mark.parametrize("port", [PORT, IMPATIENT_PORT], ids=["the connection ends", "silence"])
def test_a_dataset_that_breaks_off_is_abandoned(stored: Stored, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request("RECEIVER"))
        assert connection.recv(1) == b"\x02"
        command = b""
        for number, value in ((0x0002, CTImageStorage.encode()), (0x0100, b"\1\0"), (0x0110, b"\1\0"), (0x0800, b"\1\0")):
            command += struct.pack("<HHI", 0, number, len(value)) + value
        for control, content in ((3, command), (0, b"half a dataset")):
            value = struct.pack(">IBB", len(content) + 2, 1, control) + content
            connection.sendall(struct.pack(">BxI", 4, len(value)) + value)
        if port == IMPATIENT_PORT:
            wait_for(lambda: stored.broken == 1)
    wait_for(lambda: stored.broken == 1)
    assert not stored.whole


@pytest.fixture
def patient() -> int:
    """An SCP with a second for each request, and two places, at a port of its own."""
    port = free_port()
    StorageSCP("RECEIVER", (), STORED.begin, seconds=60, most_associations=2, request_seconds=1).listen("127.0.0.1", port)
    return port


def until_closed(connection: socket.socket, say: bytes = b"") -> float:
    """Return after how many seconds the SCP closes a connection on which a byte is said now and then."""
    begun = time.monotonic()
    connection.settimeout(0.2)
    at = 0
    while time.monotonic() - begun < 60:
        with contextlib.suppress(TimeoutError):
            try:
                if connection.recv(100) in (b"", b"\x07\0\0\0\0\4\0\0\2\2"):
                    break
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                break
        with contextlib.suppress(OSError):
            connection.sendall(say[at : at + 1])
        at += 1
    return time.monotonic() - begun


def test_connections_that_ask_for_nothing_take_no_place_and_are_closed(patient: int) -> None:
    """Idle ones, and those that say a byte of their request now and then; a peer has 32 of them at once."""
    idle = [socket.create_connection(("127.0.0.1", patient), timeout=30) for _ in range(20)]
    assert told(request("RECEIVER"), port=patient)[:1] == b"\x02"
    assert until_closed(idle[0]) < 30
    assert until_closed(socket.create_connection(("127.0.0.1", patient)), request("RECEIVER")) < 30
    for connection in idle:
        connection.close()
    many = [socket.create_connection(("127.0.0.1", patient), timeout=30) for _ in range(100)]
    wait_for(lambda: told(request("RECEIVER"), port=patient)[:1] == b"\x02")
    for connection in many:
        connection.close()


def test_a_thread_that_cannot_be_started_costs_its_connection_alone(patient: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    failures = iter([True] * 5)

    def fails(thread: threading.Thread) -> None:
        if thread.name == "association" and next(failures, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails)
    assert [told(request("RECEIVER"), port=patient)[:1] for _ in range(7)] == [b""] * 5 + [b"\x02"] * 2


def test_more_contexts_than_there_can_be_are_refused_at_once(patient: int) -> None:
    assert told(too_many_contexts("RECEIVER"), port=patient)[:1] == b"\x07"


@pytest.mark.parametrize("fragment", [b"", b"x" * 1000], ids=["empty", "full"])
def test_a_command_that_has_no_end_is_aborted(patient: int, fragment: bytes, caplog: pytest.LogCaptureFixture) -> None:
    pdu = fragments_of_a_command(fragment, 100)
    # What it answers may be lost with the connection, into which more is said than it reads.
    told(request("RECEIVER"), *[pdu] * 200, port=patient)
    wait_for(lambda: "a command set that has no end" in caplog.text)


def test_a_port_that_is_dead_ends_the_process() -> None:
    port = free_port()
    program = (
        "import socket, time\n"
        "from dimse import storage_scp\n"
        "storage_scp.Places.enter = None\n"
        f"storage_scp.StorageSCP('A', (), None, 60).listen('127.0.0.1', {port})\n"
        f"socket.create_connection(('127.0.0.1', {port})); time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 1 and "no association can be accepted any more" in done.stderr
