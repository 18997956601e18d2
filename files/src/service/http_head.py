"""HTTP connections that must bring the head of a request within a time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = 10


class HeadInTime(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP, which by itself waits for ever for the rest of a request's head."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._begin_to_wait()

    def data_received(self, data: bytes) -> None:
        """Wait on where a head is still incomplete, from when its first bytes came."""
        super().data_received(data)
        if not self._has_no_request():
            self._stop_to_wait()
        elif self._timer is None:
            self._begin_to_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_to_wait()
        super().connection_lost(exc)

    def _has_no_request(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _begin_to_wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._end)

    def _stop_to_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        # A WebSocket has taken the connection over otherwise.
        if self._has_no_request() and self.transport.get_protocol() is self:
            self.transport.close()
