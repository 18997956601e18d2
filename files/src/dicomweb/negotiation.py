"""Which media type a request brings and which its answer must have (PS3.18 8.7)."""

from __future__ import annotations

from collections.abc import Sequence

from dicomweb.errors import RequestError

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    name, *parameters = text.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return name.strip().lower(), {key.strip().lower(): value.strip().strip('"').lower() for key, _, value in pairs}


def media_ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return what an Accept header takes, as names with parameters, what it wants most first (PS3.18 8.7.5)."""
    found = []
    for text in filter(None, (part.strip() for part in accept.split(","))):
        name, parameters = _parsed(text)
        weight = _weight(parameters)
        if weight > 0:
            found.append((weight, name, parameters))
    return [(name, parameters) for _, name, parameters in sorted(found, key=lambda each: -each[0])]


def _weight(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1.0


def body_type(content_type: str) -> str:
    """Return DICOM_JSON or DICOM_XML for a Content-Type; raise RequestError (415) for any other."""
    name, parameters = _parsed(content_type)
    charset = parameters.get("charset", "utf-8")
    if charset not in {"utf-8", "utf8", "us-ascii"}:
        raise RequestError(415, f"The Content-Type has the charset {charset}: send UTF-8.")
    if name in {DICOM_JSON, "application/json"}:
        return DICOM_JSON
    if name in {DICOM_XML, "application/xml", "text/xml"}:
        return DICOM_XML
    raise RequestError(415, f"The Content-Type is {name or 'missing'}: send {DICOM_JSON} or {DICOM_XML}.")


def answer_type(accept: str, offered: Sequence[str] = (DICOM_JSON, DICOM_XML)) -> str:
    """Return the one of `offered` that an Accept header wants most, the first where it says nothing.

    `application/json` takes DICOM JSON, a multipart takes its parts' type. Raises RequestError (406) where it takes none.
    """
    if not accept.strip():
        return offered[0]
    for name, parameters in media_ranges(accept):
        name = parameters.get("type", name) if name == "multipart/related" else name
        name = {"application/json": DICOM_JSON, "application/xml": DICOM_XML, "text/xml": DICOM_XML}.get(name, name)
        found = next((kind for kind in offered if name in {kind, "*/*", "application/*"}), None)
        if found:
            return found
    raise RequestError(406, f"The Accept header takes none of {', '.join(offered)}.")


def takes_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding header takes gzip (RFC 9110 12.5.3)."""
    weights = {name: _weight(parameters) for name, parameters in map(_parsed, accepted.split(","))}
    return weights.get("gzip", weights.get("*", 0.0)) > 0
