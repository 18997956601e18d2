"""Attributes as Orthanc's index has them, texts in UTF-8, in the DICOM JSON model (PS3.18 annex F)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dicomweb.attributes import DECIMAL_VRS, INTEGER_VRS, NAME_GROUPS, is_tag, usual_vr
from dicomweb.dataset import Dataset, element
from dicomweb.model_values import number_of

# VRs of one value, in which a backslash is a character (PS3.5 6.2).
_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
# What is left of code extensions (PS3.5 6.1.2.5.1) without their escape characters: there and back, or Korean and Chinese.
_CODE_EXTENSION = re.compile(r"\$[@B](?:[!-~]{2})+?\([BJ]|\$\)[AC]|\$\(D")
# Beyond ASCII what character sets of one byte a character have: European, Greek to Thai, and half-width kana, yen and overline.
_SINGLE_BYTE = re.compile("[\u0080-\u0e7f\u2010-\u20ac\uff61-\uff9f]")
_MISREAD_ALONE = frozenset({"ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 159"})
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def attribute(tag: str, text: str) -> dict[str, Any]:
    """Return an attribute of the model, made of all its values as one text."""
    vr = usual_vr(tag)
    return element(vr, *_values(vr, text))


def _values(vr: str, text: str) -> list[Any]:
    listed = [text] if vr in _ONE_VALUE else text.split("\\")
    made = [_value(vr, each) for each in listed]
    return [] if all(value is None for value in made) else made


def _value(vr: str, text: str) -> Any:
    plain = text.rstrip(" \0") if vr in _ONE_VALUE else text.strip(" \0")
    if not plain:
        return None
    if vr == "PN":
        groups = (group.rstrip(" ") for group in plain.split("="))
        return {name: group for name, group in zip(NAME_GROUPS, groups, strict=False) if group} or None
    if vr in INTEGER_VRS | DECIMAL_VRS:
        return number_of(vr, plain)
    return plain


def misread(attributes: Dataset) -> frozenset[str]:
    """Return the texts of a resource which Orthanc may have read wrongly.

    Where the first of several character sets is named, it reads all of a text in that one. A name then has groups for ideographs
    and for how they sound (PS3.5 6.2.1.2) in plain ASCII, and other texts what is left of code extensions.
    """
    texts = {tag: value for tag, value in attributes.items() if value["vr"] in _TEXT_VRS and value.get("Value")}
    is_wrong = any(_is_misread(each) for value in texts.values() for each in value["Value"])
    return frozenset(texts) if is_wrong else frozenset()


def doubtful(attributes: Dataset) -> frozenset[str]:
    """Return the texts of a resource which Orthanc has read wrongly if their character set is one that it misreads.

    Of ideographs, kana and Hangul it isn't: what it takes for one byte a character never becomes these.
    """
    texts = {tag: value for tag, value in attributes.items() if value["vr"] in _TEXT_VRS and value.get("Value")}
    said = [text for value in texts.values() for each in value["Value"] for text in _texts(each)]
    return frozenset(texts) if any(_SINGLE_BYTE.search(text) for text in said) else frozenset()


def is_misread_character_set(said: str) -> bool:
    """Return whether Orthanc may have texts of a Specific Character Set wrongly (PS3.3 C.12.1.1.2), by its values as one text.

    It takes the first one for all of a text where that is named.
    """
    first, *others = (each.strip(" \0") for each in said.split("\\"))
    return bool(first and others) or first in _MISREAD_ALONE


def _texts(value: Any) -> Iterator[str]:
    yield from value.values() if isinstance(value, dict) else [value] if isinstance(value, str) else []


def _is_misread(value: Any) -> bool:
    if isinstance(value, dict):
        groups = [value.get(group, "") for group in NAME_GROUPS]
        return any(group and group.isascii() for group in groups[1:]) or any(map(_is_misread, groups))
    return isinstance(value, str) and _CODE_EXTENSION.search(value) is not None


def sequences(text: str) -> Dataset:
    """Return the sequences that Orthanc keeps beside the texts (MainDicomSequences); none where they can't be read."""
    try:
        return _dataset(json.loads(text))
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}


def _dataset(given: dict[str, Any]) -> Dataset:
    """Return a dataset that stands in Orthanc's own form: by `gggg,eeee`, with the type and the value of each attribute."""
    made: Dataset = {}
    for name, entry in given.items():
        tag = name.replace(",", "").upper()
        if not is_tag(tag):
            continue
        if entry["Type"] == "Sequence":
            made[tag] = element("SQ", *(_dataset(item) for item in entry["Value"]))
        elif entry["Type"] == "String":
            made[tag] = attribute(tag, entry["Value"])
    return dict(sorted(made.items()))
