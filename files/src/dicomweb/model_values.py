"""Values in the DICOM JSON model (PS3.18 F.2.3), as they stand in a file: also those that their VR doesn't allow."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable
from typing import Any

from pydicom.dataelem import DataElement

from dicomweb.attributes import INTEGER_VRS, NAME_GROUPS

_INTEGER = re.compile(r"[+-]?\d{1,15}(\.0*)?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
# What designates a character set (PS3.5 6.1.2.5.3), which pydicom leaves in texts of ISO 2022 IR 58.
_DESIGNATION = re.compile(r"\x1b[$()-]{1,2}[@-~]")
_NUMBER_STRINGS = frozenset({"DS", "IS"})


def values_of(element: DataElement, content: bytes | None, *, has_character_set: bool) -> list[Any]:
    """Return an element's values, None for each that is empty; `content` is its value as it is encoded, where that is known.

    Texts of a dataset without a character set are read as UTF-8 where they are that, as Orthanc's index has them. Raises
    ValueError, or what pydicom raises, where it can't read them.
    """
    given = element.value
    listed = list(given) if element.VM > 1 else [] if element.is_empty else [given]
    if not listed and (content or b"").strip(b" \0=^"):
        raise ValueError("a value that pydicom leaves out")
    if element.VR == "PN":
        return _kept(_name(each, has_character_set) for each in listed)
    if element.VR == "AT":
        return [f"{each:08X}" for each in listed]
    return _kept(_value(element.VR, each, has_character_set) for each in listed)


def numbers_of(vr: str, content: bytes) -> list[Any]:
    """Return the values of an IS or a DS by its bytes."""
    return _kept(number_of(vr, text.strip(" \0")) for text in content.decode("ascii", "replace").split("\\"))


def number_of(vr: str, text: str) -> int | float | str | None:
    """Return a value of a numeric VR that is written as text; what isn't one, or too large to be exact, stays a text.

    What JSON has no number for, as infinity, is None.
    """
    if vr in INTEGER_VRS:
        return int(text.partition(".")[0]) if _INTEGER.fullmatch(text) else text or None
    if _DECIMAL.fullmatch(text):
        return _finite(float(text))
    return None if _NO_NUMBER.fullmatch(text) else text or None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _value(vr: str, value: Any, has_character_set: bool) -> Any:
    if isinstance(value, float) and vr in ("FD", "FL"):
        return _finite(value)
    if vr in _NUMBER_STRINGS:
        # As it was written, which pydicom's numbers remember.
        return number_of(vr, str(value).strip())
    if isinstance(value, int):
        return int(value)
    return _text(str(value), has_character_set) or None


def _name(value: Any, has_character_set: bool) -> dict[str, str] | None:
    components = (_text(each, has_character_set) for each in value.components)
    groups = zip(NAME_GROUPS, components, strict=False)
    return {name: group for name, group in groups if group} or None


def _text(text: str, has_character_set: bool) -> str:
    if not has_character_set and not text.isascii():
        # pydicom has read them as Latin-1, which everything is.
        with contextlib.suppress(UnicodeError):
            return text.encode("latin-1").decode()
    return _DESIGNATION.sub("", text) if "\x1b" in text else text


def _kept(values: Iterable[Any]) -> list[Any]:
    made = list(values)
    return [] if all(value is None for value in made) else made
