"""Attributes by tag and keyword, and the value representations that they may have (PS3.6)."""

from __future__ import annotations

import functools
import re

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")

_UID = re.compile(r"\d+(\.\d+)*", re.ASCII)

TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
DECIMAL_VRS = frozenset({"DS", "FD", "FL"})
BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
"""The component groups of a person's name, in their order (PS3.5 6.2.1)."""
VRS = TEXT_VRS | INTEGER_VRS | DECIMAL_VRS | BULK_VRS | {"AT", "PN", "SQ"}


def is_uid(text: str) -> bool:
    """Return whether a text is a UID. Archives have leading zeros, which the standard hasn't."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Return whether a text is a tag, eight hexadecimal digits."""
    return _TAG.fullmatch(text) is not None


@functools.lru_cache(maxsize=8192)
def tag_of(name: str) -> str | None:
    """Return the tag, eight upper-case hexadecimal digits, of a tag or keyword; None if it is neither."""
    if is_tag(name):
        return name.upper()
    tag = tag_for_keyword(name) if _KEYWORD.fullmatch(name) else None
    return None if tag is None else f"{tag:08X}"


@functools.lru_cache(maxsize=8192)
def vrs_of(tag: str) -> frozenset[str]:
    """Return the VRs that an attribute may have: what the dictionary says, any for one that it doesn't have."""
    try:
        return frozenset(dictionary_VR(int(tag, 16)).split(" or "))
    except KeyError:
        return VRS


@functools.lru_cache(maxsize=8192)
def usual_vr(tag: str) -> str:
    """Return the VR of an attribute that doesn't say it: words where it may have them, UN for one that isn't in the dictionary."""
    try:
        return dictionary_VR(int(tag, 16)).split(" or ")[-1]
    except KeyError:
        return "UN"


@functools.lru_cache(maxsize=8192)
def described(tag: str) -> str:
    """Return an attribute as messages name it: `00741000 (ProcedureStepState)`."""
    keyword = keyword_for_tag(int(tag, 16))
    return f"{tag} ({keyword})" if keyword else tag
