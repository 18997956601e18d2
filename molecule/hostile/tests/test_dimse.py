"""One silent connection must not stop a hospital, nor many, nor one that says too much."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacker import connected, is_closed
from datasets import of_kind, with_nested_sequences
from dimse_client import Archive
from hosts import Host
from pydicom.uid import DeflatedExplicitVRLittleEndian
from raw_dimse import fragments_of_a_command, request, too_many_contexts

# Port and AE title: Orthanc's behind HAProxy, and that of static DICOMweb.
PEERS: dict[str, tuple[int, str]] = {"orthanc": (4242, "ORTHANC"), "dicomwebscp": (11115, "DICOMWEBSCP")}
# haproxy_connections_of_client, as the role has it.
CONNECTIONS_OF_CLIENT = 24


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> tuple[int, str]:
    return PEERS[request.param]


@contextlib.contextmanager
def idle(host: Host, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that are open for a while; those that are refused at once are none."""
    with contextlib.ExitStack() as held:
        made = []
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                made.append(held.enter_context(connected(host, port)))
        yield made


@pytest.mark.parametrize("count", [1, 12, 81])
def test_connections_that_say_nothing(host: Host, peer: tuple[int, str], count: int) -> None:
    with idle(host, peer[0], count) as connections:
        assert all(is_closed(connection, 30) for connection in connections)


def test_connections_that_say_a_byte_now_and_then(host: Host, peer: tuple[int, str]) -> None:
    port, title = peer
    with idle(host, port, 64) as connections:
        for at in range(20):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(request(title)[at : at + 1])
            time.sleep(0.3)


def test_associations_that_stop(host: Host, peer: tuple[int, str]) -> None:
    """As many as one client may have: some say nothing, the others the beginning of a PDU, a byte now and then (PS3.8 9.3.5)."""
    port, title = peer
    begun = b"\x04\x00\x00\x00\x00\x60\x00\x00\x00\x5c\x01\x03" + bytes(90)
    with idle(host, port, CONNECTIONS_OF_CLIENT) as connections:
        for connection in connections:
            connection.sendall(request(title))
        accepted = [connection for connection in connections if connection.recv(1) == b"\x02"]
        assert len(accepted) > CONNECTIONS_OF_CLIENT - 4
        for at in range(15):
            for connection in accepted[::2]:
                with contextlib.suppress(OSError):
                    connection.sendall(begun[at : at + 1])
            time.sleep(1)


def test_a_request_of_a_megabyte(host: Host, peer: tuple[int, str]) -> None:
    port, title = peer
    for _ in range(5):
        with connected(host, port) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(too_many_contexts(title))
            assert is_closed(connection, 30)


@pytest.mark.parametrize("fragment", [b"", b"x" * 1000], ids=["empty", "full"])
def test_a_command_without_an_end(host: Host, peer: tuple[int, str], fragment: bytes) -> None:
    """64 MB of fragments, or 20 s of them."""
    port, title = peer
    pdu = fragments_of_a_command(fragment, 16 if fragment else 1000)
    with connected(host, port) as connection, contextlib.suppress(OSError):
        connection.sendall(request(title))
        assert connection.recv(1) == b"\x02"
        end = time.monotonic() + 20
        for _ in range((64 << 20) // len(pdu)):
            connection.sendall(pdu)
            if time.monotonic() > end:
                break


@pytest.mark.parametrize("levels", [8, 24, 25, 50, 1500])
def test_sequences_within_each_other(host: Host, peer: tuple[int, str], levels: int, tmp_path: Path) -> None:
    port, title = peer
    refused = 0xA700 if title == "ORTHANC" else 0xC000
    for _ in range(4):
        status = Archive(host.address, port, title).store_file(with_nested_sequences(levels, tmp_path).path)
        assert status == (refused if levels > 24 else 0)
    # dicomwebscp reads what has come once nothing more comes.
    time.sleep(5)


def test_a_dataset_that_unfolds(host: Host, peer: tuple[int, str], tmp_path: Path) -> None:
    """486 KB of C-STORE that unfold to 500 MB: Orthanc takes no deflated ones, dicomwebscp none that become so many."""
    port, title = peer
    dataset = of_kind("ct", tmp_path).dataset
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(500 << 20)
    assert Archive(host.address, port, title).tried(dataset) == (None if title == "ORTHANC" else 0xC000)
    # dicomwebscp reads what has come once nothing more comes.
    time.sleep(5)
