"""Files that are stored by Orthanc's REST API."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# Orthanc answers when an instance is stored, which on a busy database takes its time.
_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 120


@dataclass(frozen=True)
class Answer:
    """Orthanc's answer."""

    status: int
    content: bytes


class Uploads:
    """Connections to Orthanc, which are kept: any thread may send by them.

    The kernel sends a file as it is. An HTTP client that is given its content needs more of the processor than all else that a
    store is here.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        """`url` is Orthanc's REST API."""
        parts = urlsplit(url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._at = (parts.hostname or "", parts.port)
        self._path = f"{parts.path.rstrip('/')}/instances"
        self._headers = {"Content-Type": "application/dicom"}
        if user:
            self._headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._busy: set[http.client.HTTPConnection] = set()
        self._is_closed = False

    def send(self, path: Path) -> Answer:
        """Have Orthanc store a file; raise OSError or HTTPException where it doesn't answer.

        What it has stored all the same, it takes again.
        """
        while connection := self._taken():
            try:
                return self._send(connection, path)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # Orthanc may have closed those that are idle, or close one just as it is used.
                if self._is_closed:
                    raise
        connection = self._kind(*self._at, timeout=_CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(_ANSWER_SECONDS)
        return self._send(connection, path)

    def _taken(self) -> http.client.HTTPConnection | None:
        """Return a connection that was idle, if there is one. Another thread may take it in between."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _send(self, connection: http.client.HTTPConnection, path: Path) -> Answer:
        """Send by a connection, which is kept where it can be used again."""
        is_kept = False
        self._busy.add(connection)
        try:
            with path.open("rb") as file:
                connection.putrequest("POST", self._path)
                for name, value in self._headers.items():
                    connection.putheader(name, value)
                connection.putheader("Content-Length", str(path.stat().st_size))
                connection.endheaders()
                connection.sock.sendfile(file)
            answer = connection.getresponse()
            made = Answer(answer.status, answer.read())
            is_kept = not answer.will_close
        finally:
            self._busy.discard(connection)
            if not is_kept:
                connection.close()
        self._idle.append(connection)
        return made

    def close(self) -> None:
        """End all connections; who waits for an answer gets none."""
        self._is_closed = True
        for busy in tuple(self._busy):
            # Its thread may be closing it, too.
            with contextlib.suppress(OSError, AttributeError):
                busy.sock.shutdown(socket.SHUT_RDWR)
        while connection := self._taken():
            connection.close()
