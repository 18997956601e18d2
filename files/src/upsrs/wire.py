"""Requests and answers of UPS-RS as HTTP carries them (PS3.18 8.4 to 8.7, 11.1)."""

from __future__ import annotations

import json
import re
import secrets
from urllib.parse import parse_qsl, quote, unquote

from dicomweb.dataset import Dataset, checked, read_json, write_json
from dicomweb.errors import RequestError
from dicomweb.native_xml import read_xml, write_xml
from dicomweb.negotiation import DICOM_JSON, DICOM_XML, answer_type, body_type
from dicomweb.query import Matching, add_key
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response


def pairs(request: HTTPConnection) -> list[tuple[str, str]]:
    """Return the query's names and values, decoded; raise RequestError (400) where they aren't UTF-8."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        raise RequestError(400, "The query isn't UTF-8, or has more than 200 parameters.") from None


def wanted_type(request: HTTPConnection) -> str:
    """Return the media type of the answer, from the parameter `accept` or the header (PS3.18 8.3.3.1)."""
    named = next((value for name, value in pairs(request) if name.lower() == "accept"), None)
    return answer_type(request.headers.get("accept", "") if named is None else named)


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


async def read_dataset(request: Request, most: int, *, may_be_empty: bool = False) -> Dataset:
    """Return the body's one dataset, checked; raise RequestError (400, 413, 415)."""
    body = await read_body(request, most)
    if not body.strip() and may_be_empty:
        return {}
    kind = body_type(request.headers.get("content-type", ""))
    if not body.strip():
        raise RequestError(400, "The body is empty: send one workitem.")
    if kind == DICOM_XML:
        return checked(read_xml(body))
    given = read_json(body)
    if isinstance(given, list):
        if len(given) != 1:
            raise RequestError(400, f"The body is an array of {len(given)} datasets: send one.")
        given = given[0]
    return checked(given)


def public_url(connection: HTTPConnection, *segments: str) -> str:
    """Return the address under which the client finds a resource of this service, from the headers that a proxy adds."""
    headers = connection.headers
    scheme = headers.get("x-forwarded-proto", connection.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
    return f"{scheme}://{host}{prefix}/" + "/".join(quote(segment, safe="") for segment in segments)


def channel_url(connection: HTTPConnection, aetitle: str) -> str:
    """Return the address of a subscriber's notification channel: wss where the client came by TLS."""
    return re.sub("^http", "ws", public_url(connection, "ws", "subscribers", aetitle))


def warning_headers(connection: HTTPConnection, warnings: tuple[str, ...]) -> dict[str, str]:
    """Return the Warning header (PS3.18 8.4.4.2), none where there is nothing to warn of."""
    base = public_url(connection).rstrip("/")
    return {"Warning": ", ".join(f"299 {base}: {text}" for text in warnings)} if warnings else {}


def one_dataset(dataset: Dataset, kind: str, status: int, headers: dict[str, str], *, as_array: bool) -> Response:
    """Answer with one dataset."""
    if kind == DICOM_XML:
        return Response(write_xml(dataset), status, headers, DICOM_XML)
    return Response(write_json([dataset] if as_array else dataset), status, headers, DICOM_JSON)


def many_datasets(datasets: list[Dataset], kind: str, status: int, headers: dict[str, str]) -> Response:
    """Answer with the results of a search: an array, or XML in parts. No result is 204 there: a multipart has at least one part."""
    if kind == DICOM_JSON:
        return Response(write_json(datasets) if status != 204 else b"", status, headers, DICOM_JSON)
    if not datasets:
        return Response(status_code=204 if status == 200 else status, headers=headers)
    boundary = secrets.token_hex(16)
    parts = (f"--{boundary}\r\nContent-Type: {DICOM_XML}\r\n\r\n".encode() + write_xml(dataset) + b"\r\n" for dataset in datasets)
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Response(body, status, headers, f'multipart/related; type="{DICOM_XML}"; boundary={boundary}')


def error(connection: HTTPConnection, problem: RequestError) -> Response:
    """Answer with what is wrong."""
    headers = warning_headers(connection, (problem.warning,) if problem.warning else ())
    if problem.status == 503:
        headers["Retry-After"] = "5"
    # As ASCII: a message shows what was sent, which may be no characters at all.
    body = json.dumps({"status": problem.status, "message": problem.message}).encode()
    return Response(body, problem.status, headers, "application/json")


def filter_of(connection: HTTPConnection) -> Matching:
    """Return a subscription's filter: `filter=k=v,k=v`, whose values have `=` and `,` percent-encoded, or plain keys."""
    matching: Matching = {}
    text = connection.scope["query_string"].decode("latin-1")
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        name = unquote(name)
        if name.lower() in {"deletionlock", "accept"}:
            continue
        if name.lower() != "filter":
            add_key(matching, name, unquote(value.replace("+", " ")))
            continue
        # Some clients encode the whole value, and what is in it once more.
        listed = value if "=" in value else unquote(value)
        for pair in filter(None, listed.split(",")):
            key, equals, wanted = pair.partition("=")
            if not equals:
                raise RequestError(400, f"The filter has {unquote(pair)[:80]!r}: give TagOrKeyword=value,…")
            add_key(matching, unquote(key), unquote(wanted.replace("+", " ")))
    return matching
