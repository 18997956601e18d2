"""Which media type a request brings and which its answer must have (PS3.18 8.7)."""

from __future__ import annotations

from collections.abc import Sequence

from dicomweb.errors import RequestError

DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    name, *parameters = text.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return name.strip().lower(), {key.strip().lower(): value.strip().strip('"').lower() for key, _, value in pairs}


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
    best, best_weight = "", 0.0
    for text in filter(None, (part.strip() for part in accept.split(","))):
        name, parameters = _parsed(text)
        name = parameters.get("type", name) if name == "multipart/related" else name
        name = {"application/json": DICOM_JSON, "application/xml": DICOM_XML, "text/xml": DICOM_XML}.get(name, name)
        found = next((kind for kind in offered if name in {kind, "*/*", "application/*"}), None)
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 1.0
        if found and weight > best_weight:
            best, best_weight = found, weight
    if not accept.strip():
        return offered[0]
    if not best:
        raise RequestError(406, f"The Accept header takes none of {', '.join(offered)}.")
    return best
