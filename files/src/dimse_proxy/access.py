"""Who may ask: by network, and by API key or Basic authentication (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress

from dicomweb.errors import RequestError
from dicomweb.http import error
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from dimse_proxy.config import Config

_OPEN_PATHS = ("/ping",)


class Access:
    """Lets in who may ask, and answers everyone else with 401 or 403."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(network) for network in config.allowed_networks]
        self._key = config.api_key.get_secret_value().encode() if config.api_key else b""
        self._users = [f"{entry.user}:{entry.password.get_secret_value()}".encode() for entry in config.basic_auth]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
            return
        answer = error(Request(scope), problem)
        if problem.status == 401 and self._users:
            answer.headers["WWW-Authenticate"] = 'Basic realm="DICOMweb", charset="UTF-8"'
        await answer(scope, receive, send)

    def _problem(self, scope: Scope) -> RequestError | None:
        if self._networks:
            client = ipaddress.ip_address((scope.get("client") or ("0.0.0.0", 0))[0])
            plain = getattr(client, "ipv4_mapped", None) or client
            if not any(plain in network for network in self._networks):
                return RequestError(403, f"{plain} is not in one of allowedNetworks.")
        if not (self._key or self._users) or scope["path"] in _OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        if self._key and hmac.compare_digest(headers.get("x-api-key", "").encode(), self._key):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                pair = base64.b64decode(given.strip(), validate=True)
            except (binascii.Error, ValueError):
                pair = b""
            # Each is compared, so that the time doesn't tell which one it was.
            matches = [hmac.compare_digest(pair, user) for user in self._users]
            if any(matches):
                return None
        return RequestError(401, "Give the API key as X-API-Key, or user and password.")
