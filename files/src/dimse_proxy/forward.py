"""The mode `dicomweb`: requests pass to another DICOMweb server, streamed both ways."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator

import httpx
from dicomweb.addresses import is_normal
from dicomweb.answers import Stream
from dicomweb.errors import RequestError
from dicomweb.instances import CutError
from starlette.requests import Request
from starlette.responses import Response

from dimse_proxy.config import Config

_LOG = logging.getLogger("dimse_proxy")
# Headers of one connection (RFC 9110 7.6.1), and those that the proxy sets itself.
_OF_A_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
_NOT_SENT_ON = _OF_A_CONNECTION | {"host", "content-length", "x-api-key"}
_NOT_SENT_BACK = _OF_A_CONNECTION | {"server", "date"}


class Forwarder:
    """Passes requests on as they are: searches to one address, stores and retrievals to another, nothing else."""

    def __init__(self, config: Config) -> None:
        settings = config.dicomweb_proxy_settings
        assert settings
        self._qido = settings.qido_forwarding_url.rstrip("/")
        self._wado = settings.wado_forwarding_url.rstrip("/")
        self._own_access = bool(config.api_key or config.basic_auth)
        timeout = httpx.Timeout(config.silence_seconds, connect=min(config.silence_seconds, 10), pool=config.max_waiting_seconds)
        self._client = httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)

    async def forward(self, request: Request, *, is_search: bool) -> Response:
        """Answer as the other server does.

        Raises RequestError: 502, 504 where it doesn't answer, 400 where the path could be read in two ways.
        """
        base = self._qido if is_search else self._wado
        query = request.scope["query_string"].decode("latin-1")
        path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
        if not is_normal(path):
            raise RequestError(
                400, "The path is not in normal form: no dot segments, no empty ones, no backslash, nothing encoded twice."
            )
        path = path.removeprefix(request.scope.get("root_path", ""))
        url = f"{base}{path}" + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in request.headers.raw if name.decode().lower() not in _NOT_SENT_ON]
        if self._own_access:
            # It was for this proxy.
            headers = [(name, value) for name, value in headers if name.lower() != b"authorization"]
        has_body = request.method in ("POST", "PUT", "PATCH")
        if has_body and "content-length" in request.headers:
            headers.append((b"content-length", request.headers["content-length"].encode()))
        made = self._client.build_request(request.method, url, headers=headers, content=request.stream() if has_body else None)
        async with contextlib.AsyncExitStack() as holds:
            try:
                answer = await self._client.send(made, stream=True)
            except httpx.TimeoutException:
                raise RequestError(504, f"{base} doesn't answer.") from None
            except httpx.HTTPError as error:
                raise RequestError(502, f"{base} can't be reached: {error}.") from None
            holds.push_async_callback(answer.aclose)
            stream = Stream(_pieces(answer, base), "", holds.pop_all())
            stream.status_code = answer.status_code
            stream.raw_headers = [
                (name.lower(), value) for name, value in answer.headers.raw if name.decode().lower() not in _NOT_SENT_BACK
            ]
            return stream
        raise AssertionError

    async def problem(self) -> str:
        """Return why the other server can't be reached, or nothing."""
        for base in dict.fromkeys((self._qido, self._wado)):
            try:
                async with self._client.stream("GET", f"{base}/studies?limit=1"):
                    pass
            except httpx.HTTPError as error:
                return f"{base} can't be reached: {error or type(error).__name__}"
        return ""

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


async def _pieces(answer: httpx.Response, base: str) -> AsyncGenerator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.HTTPError as error:
        raise CutError(f"{base} broke off: {error or type(error).__name__}") from None
