"""What the values of keys mean (PS3.4 C.2.2.2), whoever does the matching."""

from __future__ import annotations

import json
import re
import unicodedata

from dicomweb.attributes import DECIMAL_VRS, INTEGER_VRS, described
from dicomweb.errors import RequestError

TIME_VRS = frozenset({"DA", "DT", "TM"})
WITHOUT_WILDCARDS = frozenset({"AS", "AT", "DA", "DT", "TM", "UI", "UR"}) | INTEGER_VRS | DECIMAL_VRS
"""VRs whose values have no wildcards (PS3.4 C.2.2.2.4)."""


def has_wildcard(value: str) -> bool:
    """Return whether a value is a pattern."""
    return "*" in value or "?" in value


def plain(text: str) -> str:
    """Return a text without case and accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)).lower()


def words(name: str) -> list[str]:
    """Return the words of a name, of each of which fuzzy matching wants one that begins so."""
    return [word for word in re.split(r"[\s^=,.*?-]+", plain(name)) if word]


def uids(tag: str, value: str) -> list[str]:
    """Return the UIDs of a list; raise RequestError (400) where one is none."""
    found = [uid.strip() for uid in re.split(r"[,\\]", value)]
    wrong = [uid for uid in found if not re.fullmatch(r"[0-9.]{1,64}", uid)]
    if wrong:
        raise RequestError(400, f"The key {described(tag)} has {wrong[0][:80]!r}, which is no UID.")
    return found


def number(tag: str, value: str) -> int | float:
    """Return a number; raise RequestError (400) where it is none."""
    try:
        found = float(value)
        exact = int(value) if re.fullmatch(r"[+-]?\d{1,20}", value.strip(), re.ASCII) else found
        json.dumps(exact, allow_nan=False)
    except ValueError:
        raise RequestError(400, f"The key {described(tag)} is {value[:40]!r}, which is no number.") from None
    return exact


def bounds(tag: str, value: str) -> tuple[str, str]:
    """Return between which texts a date or time lies, both included; raise RequestError (400) where it is no range."""
    low, _, high = value.partition("-")
    if not re.fullmatch(r"[\d.]*", low) or not re.fullmatch(r"[\d.]*", high) or not (low or high):
        raise RequestError(400, f"The key {described(tag)} is {value[:60]!r}: give a range such as 20260101-20261231.")
    return low or "0", high or "9"
