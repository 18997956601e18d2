"""Requests and answers of UPS-RS as HTTP carries them (PS3.18 8.4 to 8.7, 11.1)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from dicomweb.dataset import Dataset, checked, read_json, write_json
from dicomweb.errors import RequestError
from dicomweb.http import accept_of, public_url, read_body
from dicomweb.native_xml import read_xml, write_xml
from dicomweb.negotiation import DICOM_JSON, DICOM_XML, answer_type, body_type
from dicomweb.query import Matching, add_key
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response


def wanted_type(request: HTTPConnection) -> str:
    """Return the media type of the answer, from the parameter `accept` or the header (PS3.18 8.3.3.1)."""
    return answer_type(accept_of(request))


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


def channel_url(connection: HTTPConnection, aetitle: str) -> str:
    """Return the address of a subscriber's notification channel: wss where the client came by TLS."""
    return re.sub("^http", "ws", public_url(connection, "ws", "subscribers", aetitle))


def one_dataset(dataset: Dataset, kind: str, status: int, headers: dict[str, str], *, as_array: bool) -> Response:
    """Answer with one dataset."""
    if kind == DICOM_XML:
        return Response(write_xml(dataset), status, headers, DICOM_XML)
    return Response(write_json([dataset] if as_array else dataset), status, headers, DICOM_JSON)


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
