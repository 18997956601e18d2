"""UIDs and AE titles as they stand in addresses."""

from __future__ import annotations

import re
import uuid

from dicomweb.errors import RequestError

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")


def is_uid(text: str) -> bool:
    """Return whether a text is a UID (PS3.5 9.1)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_ae_title(text: str) -> bool:
    """Return whether a text is an AE title (PS3.5 6.2): 1 to 16 characters that aren't all spaces."""
    return _AE_TITLE.fullmatch(text) is not None and text.strip(" ") != ""


def checked_uid(text: str, what: str = "The workitem's UID") -> str:
    """Return a UID; raise RequestError (400) that names it by `what`."""
    if not is_uid(text):
        raise RequestError(400, f"{what} is {text[:80]!r}, which is no UID: digits and dots, at most 64 (PS3.5 9.1).")
    return text


def checked_ae_title(text: str) -> str:
    """Return an AE title without its padding; raise RequestError (400)."""
    if not is_ae_title(text):
        raise RequestError(400, f"{text[:40]!r} is no AE title: 1 to 16 characters of ASCII without a backslash.")
    return text.strip(" ")


def new_uid() -> str:
    """Return a UID that nobody has: 2.25 and a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"
