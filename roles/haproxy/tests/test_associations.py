"""What HAProxy lets through to a DIMSE service: asked of a real HAProxy with the role's configuration, by DCMTK."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pki import pair
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from role_templates import rendered
from servers import free_port

SECONDS = 2


class Gate:
    """A HAProxy of the role before a service that answers C-ECHO."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory, self.port, self.tls_port = directory, free_port(), free_port()
        self.taken: list[Any] = []
        entity = AE("SERVICE")
        entity.add_supported_context(Verification)
        self.service = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: self.taken.append(event.address))]
        )
        certified = pair("gate")
        certificate, key = directory / "dimse.pem", directory / "dimse.pem.key"
        certificate.write_text(certified.certificate_pem)
        key.write_text(certified.key_pem())
        service = {
            "name": "main",
            "port": self.port,
            "tls_port": self.tls_port,
            "backend": f"127.0.0.1:{self.service.server_address[1]}",
            **settings.pop("service", {}),
        }
        path = rendered(
            "haproxy",
            "haproxy.cfg.j2",
            directory,
            {"haproxy_dimse_services": [service], "haproxy_request_seconds": SECONDS, **settings},
        )
        text = path.read_text().replace("log /dev/log local0", "log stdout format raw local0")
        text = re.sub(r"^    (user|group) haproxy\n", "", text, flags=re.MULTILINE)
        path.write_text(text.replace("/etc/haproxy/tls/", f"{directory}/"))
        checked = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0 and "WARNING" not in checked.stderr, checked.stderr
        self.log = directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stdout=log, stderr=log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.service.shutdown()

    def echo(self, *options: str, port: int = 0) -> bool:
        command = ["/usr/bin/echoscu", "-to", "20", *options, "-aec", "SERVICE", "127.0.0.1", str(port or self.port)]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    def logged(self, words: str) -> str:
        """Return the first line of the log with the words, once it is there."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for line in self.log.read_text().splitlines():
                if words in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no line with {words} after 30 s: {self.log.read_text()}")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    if not shutil.which("haproxy"):
        pytest.fail("haproxy isn't installed: make test-packages")
    made = Gate(tmp_path_factory.mktemp("haproxy"), haproxy_connections_of_client=40)
    yield made
    made.stop()


def closed_after(connection: socket.socket) -> float:
    """Return how many seconds it took the other side to close."""
    begun = time.monotonic()
    connection.settimeout(30)
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    return time.monotonic() - begun


def test_an_association_passes_in_the_clear_and_over_tls_and_is_logged(gate: Gate) -> None:
    assert gate.echo("-aet", "CT 1")
    line = gate.logged('calling="CT 1"')
    assert 'called="SERVICE"' in line and "from 127.0.0.1:" in line and "service=main" in line and "tls=0" in line
    assert re.search(r" ms=\d+ received=[1-9]\d+ sent=[1-9]\d+ ", line)
    assert gate.echo("+tla", "-ic", "-aet", "SECURE", port=gate.tls_port)
    assert "tls=1" in gate.logged('calling="SECURE"')


def test_idle_and_half_sent_connections_hold_nobody_up(gate: Gate) -> None:
    beginnings = [b"", b"\x01", b"\x01\x00\x00\x00\x00\xcd\x00\x01", b"\x01\x00\x00\x00\xff\xff" + b"x" * 1000]
    held = [socket.create_connection(("127.0.0.1", gate.port)) for _ in range(20)]
    for number, connection in enumerate(held):
        connection.sendall(beginnings[number % len(beginnings)])
    before = len(gate.taken)
    assert gate.echo()
    assert len(gate.taken) == before + 1, "the service saw one of them"
    for connection in held:
        assert closed_after(connection) < SECONDS + 10
        connection.close()


def test_a_tls_handshake_that_never_comes_is_not_waited_for(gate: Gate) -> None:
    for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", gate.tls_port)) as connection:
            connection.sendall(beginning)
            assert closed_after(connection) < SECONDS + 10


def test_an_association_may_be_silent(gate: Gate) -> None:
    """For longer than a request may take: its service looks for what it was asked for."""
    entity = AE("SILENT")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", gate.port)
    time.sleep(2 * SECONDS + 1)
    assert association.is_established and association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x02\x00\x00\x00\x00\x10", b"\x16\x03\x01"], ids=["http", "accept", "tls"]
)
def test_what_is_no_request_is_closed_at_once(gate: Gate, sent: bytes) -> None:
    before = len(gate.taken)
    with socket.create_connection(("127.0.0.1", gate.port)) as connection:
        connection.sendall(sent)
        closed_after(connection)
    assert len(gate.taken) == before


def test_a_request_beyond_the_largest_is_refused_whole(gate: Gate) -> None:
    before = len(gate.taken)
    with socket.create_connection(("127.0.0.1", gate.port)) as connection, contextlib.suppress(OSError):
        connection.sendall(b"\x01\x00" + (1 << 20).to_bytes(4, "big") + b"\x00\x01" + b"x" * (1 << 20))
        closed_after(connection)
    assert len(gate.taken) == before


def request_of(entity: AE) -> bytes:
    """Return the A-ASSOCIATE-RQ of an application entity: making a large one takes it longer than a request may take."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def taken() -> bytes:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                head = stream.read(6)
                return head + stream.read(int.from_bytes(head[2:], "big"))

        request = pool.submit(taken)
        entity.associate("127.0.0.1", listener.getsockname()[1])
        return request.result(timeout=180)


def test_the_largest_request_that_the_standard_knows_passes(gate: Gate) -> None:
    """128 contexts with 45 transfer syntaxes each: 158 KB in one PDU (PS3.8 9.3.2)."""
    entity = AE("LARGE")
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(50, 95)]
    entity.add_requested_context(Verification)
    for number in range(127):
        entity.add_requested_context(f"1.2.826.0.1.3680043.8.498.{number + 1}", syntaxes)
    request = request_of(entity)
    assert len(request) > 150_000
    with socket.create_connection(("127.0.0.1", gate.port), timeout=180) as connection:
        connection.sendall(request)
        assert connection.recv(1) == b"\x02"


def test_one_address_has_its_share_of_connections(gate: Gate) -> None:
    held = [socket.create_connection(("127.0.0.1", gate.port)) for _ in range(40)]
    try:
        time.sleep(0.2)
        assert not gate.echo()
    finally:
        for connection in held:
            connection.close()
    end = time.monotonic() + 30
    while not gate.echo():
        assert time.monotonic() < end, "the client was never let in again"


def test_who_may_call_is_known_by_title_and_address(tmp_path: Path) -> None:
    callers = {"CT 1": ["127.0.0.0/8"], "MR1": ["192.0.2.0/24"]}
    gate = Gate(tmp_path, service={"callers": callers})
    try:
        assert gate.echo("-aet", "CT 1")
        for title in ("MR1", "CT", "CT 11", "STRANGER"):
            assert not gate.echo("-aet", title), title
        assert 'calling="STRANGER"' in gate.logged("STRANGER")
    finally:
        gate.stop()


def test_over_tls_alone_and_with_a_certificate_that_is_known(tmp_path: Path) -> None:
    authority = pair("Hospital CA")
    known = pair("CT", issuer=authority).saved(tmp_path, "known")
    stranger = pair("stranger").saved(tmp_path, "stranger")
    (tmp_path / "client-ca.crt").write_text(authority.certificate_pem)
    gate = Gate(tmp_path, haproxy_client_ca="given")
    try:
        assert gate.echo("+tls", known[1], known[0], "-ic", port=gate.tls_port)
        assert not gate.echo("+tls", stranger[1], stranger[0], "-ic", port=gate.tls_port)
        assert not gate.echo("+tla", "-ic", port=gate.tls_port)
    finally:
        gate.stop()
