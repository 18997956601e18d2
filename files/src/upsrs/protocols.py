"""uvicorn's protocols, with what they lack for a service that is restarted under its clients and must know what they have read."""

from __future__ import annotations

import asyncio
import itertools

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

EXTENSION = "pyupsrs.acknowledge"
# Seconds that a connection which is open already has for its request when its worker is to end.
_GRACE = 1.0


class PatientHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which closes no connection whose first request is still on its way."""

    def shutdown(self) -> None:
        """End the connection after the request that is under way, or after a moment where none has come."""
        if self.cycle is None:
            self.loop.call_later(_GRACE, super().shutdown)
        else:
            super().shutdown()


class AcknowledgingProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, by which the application can ask whether all that it sent has arrived."""

    def handle_connect(self, event: Request) -> None:
        """Give the application its means to ask, and to break off."""
        self._awaited: dict[bytes, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["extensions"][EXTENSION] = {"acknowledge": self.acknowledge, "abort": self.abort}

    def acknowledge(self) -> asyncio.Future[None]:
        """Return what is done once the client has read all that was sent, or fails with ConnectionError where it is gone."""
        future = self.loop.create_future()
        if self.disconnected or self.close_sent:
            future.set_exception(ConnectionResetError("The client is gone."))
            return future
        payload = b"read" + next(self._numbers).to_bytes(8, "big")
        self._awaited[payload] = future
        self.conn.send_ping(payload)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return future

    def abort(self) -> None:
        """End the connection at once: a client that doesn't read would never let it be closed."""
        self.transport.abort()

    def handle_pong(self, event: Frame) -> None:
        """Take the answer to a question of `acknowledge`; leave uvicorn's own pings to it."""
        future = self._awaited.pop(bytes(event.data), None)
        if future is None:
            super().handle_pong(event)
        elif not future.done():
            future.set_result(None)

    def keepalive_timeout(self) -> None:
        """Break off a client that doesn't answer."""
        super().keepalive_timeout()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the waiting for answers that won't come."""
        super().connection_lost(exc)
        for future in getattr(self, "_awaited", {}).values():
            if not future.done():
                future.set_exception(ConnectionResetError("The client is gone."))
                future.exception()
