"""Answers that pages of other origins may read (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dimse_proxy.config import CorsSettings

_EXPOSED = "Content-Length, Content-Location, Content-Range, ETag, Location, Retry-After, Warning"
_PREFLIGHT_SECONDS = "600"


class Cors:
    """Adds the headers, in place of any that are there, and answers preflights. A refused origin gets none of them."""

    def __init__(self, app: ASGIApp, settings: CorsSettings) -> None:
        self._app = app
        self._settings = settings
        self._is_open = "*" in settings.origin
        self._origins = {origin.lower() for origin in settings.origin}

    def _allowed(self, origin: str) -> dict[str, str]:
        if origin.lower() in self._origins - {"*"}:
            allowed = {"Access-Control-Allow-Origin": origin}
            if self._settings.credentials:
                # For a named origin only: with credentials, any page could read what its visitor may see.
                allowed["Access-Control-Allow-Credentials"] = "true"
            return allowed
        return {"Access-Control-Allow-Origin": "*"} if self._is_open else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = self._allowed(origin) if origin else {}
        if scope["method"] == "OPTIONS" and origin and "access-control-request-method" in headers:
            await self._answer_preflight(allowed, headers["access-control-request-method"], send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                made = MutableHeaders(scope=message)
                for name in [name for name in list(made) if name.lower().startswith("access-control-")]:
                    del made[name]
                made.update(allowed)
                if allowed:
                    made["Access-Control-Expose-Headers"] = _EXPOSED
                made.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, with_headers)

    async def _answer_preflight(self, allowed: dict[str, str], method: str, send: Send) -> None:
        made = MutableHeaders({"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"})
        if allowed and method.upper() in {name.upper() for name in self._settings.methods}:
            made.update(allowed)
            made["Access-Control-Allow-Methods"] = ", ".join(self._settings.methods)
            made["Access-Control-Allow-Headers"] = ", ".join(self._settings.allowed_headers)
            made["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
        await send({"type": "http.response.start", "status": 204, "headers": made.raw})
        await send({"type": "http.response.body", "body": b""})
