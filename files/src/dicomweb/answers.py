"""Answers that are sent while they come, and are visibly cut where they can't be completed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dicomweb.errors import RequestError
from dicomweb.instances import CutError


class Stream(Response):
    """An answer in pieces. What it holds open is left when it ends, in whatever way."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        media_type: str,
        holds: contextlib.AsyncExitStack,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        if "Content-Length" not in (headers or {}):
            del self.headers["content-length"]
        self._pieces = pieces
        self._holds = holds
        self.problem = ""
        """Why it was cut, or nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. The status is sent with the first piece, so that what fails before has a status of its own."""
        async with self._holds, contextlib.aclosing(self._pieces):
            first = await anext(self._pieces, b"")
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            await send({"type": "http.response.body", "body": first, "more_body": True})
            try:
                async for piece in self._pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except (CutError, RequestError) as error:
                self.problem = f"cut: {error.__cause__ or error}"
                # Without its last chunk, no client can take it as whole.
                return
        await send({"type": "http.response.body", "body": b""})
