"""A request that is passed on to another DICOMweb server as it is, streamed both ways."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Collection

import httpx
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import is_normal
from dicomweb.answers import Stream
from dicomweb.errors import RequestError
from dicomweb.instances import CutError

# Headers of one connection (RFC 9110 7.6.1), and those that are set anew.
_OF_A_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
_NOT_SENT_ON = _OF_A_CONNECTION | {"host", "content-length"}
_NOT_SENT_BACK = _OF_A_CONNECTION | {"server", "date"}


def path_of(request: Request) -> str:
    """Return the path below where the application stands, as it was sent; raise RequestError (400) for one that is ambiguous."""
    path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
    if not is_normal(path):
        raise RequestError(
            400, "The path is not in normal form: no dot segments, no empty ones, no backslash, nothing encoded twice."
        )
    return str(path.removeprefix(request.scope.get("root_path", "")))


async def passed_on(client: httpx.AsyncClient, request: Request, base: str, path: str, kept_back: Collection[str]) -> Response:
    """Answer as the server at `base` does. Headers that are `kept_back`, in lower case, aren't for it.

    Raises RequestError: 502, 504 where it doesn't answer.
    """
    query = request.scope["query_string"].decode("latin-1")
    url = f"{base}{path}" + (f"?{query}" if query else "")
    left_out = _NOT_SENT_ON | set(kept_back)
    headers = [(name, value) for name, value in request.headers.raw if name.decode("latin-1").lower() not in left_out]
    has_body = request.method in ("POST", "PUT", "PATCH")
    if has_body and "content-length" in request.headers:
        headers.append((b"content-length", request.headers["content-length"].encode()))
    made = client.build_request(request.method, url, headers=headers, content=request.stream() if has_body else None)
    async with contextlib.AsyncExitStack() as holds:
        try:
            answer = await client.send(made, stream=True)
        except httpx.TimeoutException:
            raise RequestError(504, f"{base} doesn't answer.") from None
        except httpx.HTTPError as error:
            raise RequestError(502, f"{base} can't be reached: {error}.") from None
        holds.push_async_callback(answer.aclose)
        stream = Stream(_pieces(answer, base), "", holds.pop_all())
        stream.status_code = answer.status_code
        stream.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.decode("latin-1").lower() not in _NOT_SENT_BACK
        ]
        return stream
    raise AssertionError


async def _pieces(answer: httpx.Response, base: str) -> AsyncGenerator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.HTTPError as error:
        raise CutError(f"{base} broke off: {error or type(error).__name__}") from None
