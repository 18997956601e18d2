"""Connections of an attacker, and requests as no HTTP library would send them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from hosts import CONTROL_NODE, Host

# As prepare.yml has it.
ATTACKER = CONTROL_NODE.rpartition(".")[0] + ".66"


def connected(host: Host, port: int = 9443) -> socket.socket:
    """Return a connection from the attacker to the site's door, or to another port of the host, which has no TLS."""
    plain = socket.create_connection((host.address, port), 30, source_address=(ATTACKER, 0))
    return ssl._create_unverified_context().wrap_socket(plain) if port == 9443 else plain


def head(host: Host, method: str, target: str, *headers: str, port: int = 9443) -> bytes:
    """Return the head of a request, with the site's name unless the headers give one."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.append(f"Host: {host.address}:{port}")
    return "\r\n".join([*lines, "", ""]).encode()


def status(host: Host, method: str, target: str, *headers: str, body: bytes = b"", port: int = 9443) -> int:
    """Return the status of an answer; 0 where the connection is closed without one."""
    with connected(host, port) as connection:
        if body:
            headers = (*headers, f"Content-Length: {len(body)}")
        with contextlib.suppress(OSError):
            connection.sendall(head(host, method, target, *headers, port=port) + body)
        return status_of(connection)


def status_of(connection: socket.socket) -> int:
    """Return the status that comes over a connection; 0 where it is closed without one."""
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        line = connection.makefile("rb").readline().split()
        return int(line[1]) if line else 0
    return 0


def first_statuses(connections: list[socket.socket], count: int) -> list[int]:
    """Return the statuses that come over connections when there are so many, in whatever order nginx's workers came to them."""
    waiting, deadline = list(connections), time.monotonic() + 30
    statuses: list[int] = []
    while len(statuses) < count and time.monotonic() < deadline:
        for connection in list(waiting):
            connection.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                statuses.append(int(connection.recv(4096).split()[1]))
                waiting.remove(connection)
        time.sleep(0.05)
    return statuses


def is_closed(connection: socket.socket, within: float) -> bool:
    """Return whether the other side closes a connection within some seconds, whatever it says before."""
    connection.settimeout(within)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
