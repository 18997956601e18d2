"""Requests and answers as HTTP carries them (PS3.18 8.4 to 8.7)."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from dicomweb.dataset import Dataset, write_json
from dicomweb.errors import RequestError
from dicomweb.multipart import Parts
from dicomweb.native_xml import write_xml
from dicomweb.negotiation import DICOM_JSON

RETRY_AFTER = "5"
"""Seconds after which who was answered with 503 may ask again (RFC 9110 10.2.3)."""


def pairs(request: HTTPConnection) -> list[tuple[str, str]]:
    """Return the query's names and values, decoded; raise RequestError (400) where they aren't UTF-8."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        raise RequestError(400, "The query isn't UTF-8, or has more than 200 parameters.") from None


def accept_of(request: HTTPConnection) -> str:
    """Return what the client accepts: the parameter, else the header (PS3.18 8.3.3.1)."""
    named = next((value for name, value in pairs(request) if name.lower() == "accept"), None)
    return request.headers.get("accept", "") if named is None else named


async def read_body(request: Request, most: int) -> bytes:
    """Return the body; raise RequestError (413) where it has more than `most` bytes."""
    declared = request.headers.get("content-length", "0")
    made = bytearray()
    if not declared.isdigit() or int(declared) <= most:
        async for piece in request.stream():
            made += piece
            if len(made) > most:
                break
        else:
            return bytes(made)
    raise RequestError(413, f"The body is longer than {most} bytes.")


def public_url(connection: HTTPConnection, *segments: str) -> str:
    """Return the address under which the client finds a resource of this service.

    It follows from the headers that a proxy adds, and from the path below which the service has its resources.
    """
    headers = connection.headers
    scheme = headers.get("x-forwarded-proto", connection.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/") + connection.scope.get("root_path", "")
    return f"{scheme}://{host}{prefix}/" + "/".join(quote(segment, safe="") for segment in segments)


def warning_headers(connection: HTTPConnection, warnings: tuple[str, ...]) -> dict[str, str]:
    """Return the Warning header (PS3.18 8.4.4.2), none where there is nothing to warn of."""
    base = public_url(connection).rstrip("/")
    return {"Warning": ", ".join(f"299 {base}: {text}" for text in warnings)} if warnings else {}


def many_datasets(datasets: list[Dataset], kind: str, status: int, headers: dict[str, str]) -> Response:
    """Answer with the results of a search: an array, or XML in parts. No result is 204 there: a multipart has at least one part."""
    if kind == DICOM_JSON:
        return Response(write_json(datasets) if status != 204 else b"", status, headers, DICOM_JSON)
    if not datasets:
        return Response(status_code=204 if status == 200 else status, headers=headers)
    parts = Parts(kind)
    body = b"".join(parts.part(kind, write_xml(dataset)) for dataset in datasets) + parts.end
    return Response(body, status, headers, parts.media_type)


def error(connection: HTTPConnection, problem: RequestError) -> Response:
    """Answer with what is wrong."""
    headers = warning_headers(connection, (problem.warning,) if problem.warning else ())
    if problem.status == 503:
        headers["Retry-After"] = RETRY_AFTER
    # As ASCII: a message shows what was sent, which may be no characters at all.
    body = json.dumps({"status": problem.status, "message": problem.message}).encode()
    return Response(body, problem.status, headers, "application/json")
