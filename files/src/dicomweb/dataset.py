"""Datasets of the DICOM JSON model (PS3.18 annex F), checked and brought into one form."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from pydicom import config
from pydicom.valuerep import validate_value

from dicomweb.attributes import BULK_VRS, DECIMAL_VRS, INTEGER_VRS, NAME_GROUPS, TEXT_VRS, VRS, described, is_tag, vrs_of
from dicomweb.errors import RequestError

Dataset = dict[str, Any]

_DEEPEST = 16
_INTEGER_RANGES = {
    "IS": (-(2**31), 2**31 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "UL": (0, 2**32 - 1),
    "US": (0, 2**16 - 1),
    "UV": (0, 2**64 - 1),
}
# Control characters that a value may have (PS3.5 6.1.3): in texts of several lines only. NUL is in none, and PostgreSQL takes none.
_CONTROLS = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f]")
_LINE_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def element(vr: str, *values: Any) -> dict[str, Any]:
    """Return an attribute of that VR with these values; without any it is empty."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def values(dataset: Dataset, tag: str) -> list[Any]:
    """Return an attribute's values, an empty list where it is absent or empty."""
    found: list[Any] = dataset.get(tag, {}).get("Value", [])
    return found


def first(dataset: Dataset, tag: str) -> Any:
    """Return an attribute's first value, None where it is absent or empty."""
    return next(iter(values(dataset, tag)), None)


def is_empty(dataset: Dataset, tag: str) -> bool:
    """Return whether an attribute is absent or has no value."""
    return not any(value not in (None, "", {}) for value in values(dataset, tag)) and "InlineBinary" not in dataset.get(tag, {})


def read_json(body: bytes) -> Any:
    """Parse JSON; raise RequestError (400) where it is none, says a name twice, or has a number that isn't finite."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in pairs:
            if name in made:
                raise RequestError(400, f"The body has {name[:80]!r} twice in one object.")
            made[name] = value
        return made

    def refuse(text: str) -> NoReturn:
        raise RequestError(400, f"The body has the number {text}, which JSON doesn't have.")

    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"The body is not JSON in UTF-8: {str(error)[:200] or 'nested too deeply'}.") from None


def write_json(content: Any) -> str:
    """Return datasets as JSON, as short as it can be."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def checked(given: Any) -> Dataset:
    """Return a dataset in one form: upper-case tags in order, no empty `Value`, numbers as numbers.

    Raises RequestError (400) that names the attribute whose VR or value is wrong.
    """
    return _checked(given, "", 0)


def _checked(given: Any, place: str, depth: int) -> Dataset:
    if not isinstance(given, dict):
        raise RequestError(400, f"{place or 'The dataset'} must be an object of attributes, not {_kind(given)}.")
    if depth > _DEEPEST:
        raise RequestError(400, f"{place} is nested deeper than {_DEEPEST} sequences.")
    made: Dataset = {}
    for name, attribute in given.items():
        if not is_tag(name):
            raise RequestError(400, f"{place}{_shown(name)} is not a tag: give eight hexadecimal digits.")
        tag = name.upper()
        if tag in made:
            raise RequestError(400, f"{place}{described(tag)} is given twice.")
        made[tag] = _attribute(tag, attribute, f"{place}{described(tag)}", depth)
    return dict(sorted(made.items()))


def _attribute(tag: str, given: Any, where: str, depth: int) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RequestError(400, f"{where} must be an object with vr and Value, not {_kind(given)}.")
    unknown = set(given) - {"vr", "Value", "InlineBinary", "BulkDataURI"}
    if unknown:
        raise RequestError(400, f"{where} has the unknown member {_shown(min(unknown))}.")
    vr = given.get("vr")
    if not isinstance(vr, str) or vr not in VRS:
        raise RequestError(400, f"{where} has the VR {_shown(vr)}: give one of {', '.join(sorted(vrs_of(tag)))}.")
    if vr not in vrs_of(tag):
        raise RequestError(400, f"{where} has the VR {vr}, but must have {' or '.join(sorted(vrs_of(tag)))}.")
    if "BulkDataURI" in given:
        raise RequestError(400, f"{where} refers to bulk data, which is not fetched: give its Value.")
    if "InlineBinary" in given:
        return _binary(vr, given, where)
    listed = given.get("Value", [])
    if not isinstance(listed, list):
        raise RequestError(400, f"{where}: Value must be an array, not {_kind(listed)}.")
    if vr in BULK_VRS and listed:
        raise RequestError(400, f"{where} has the VR {vr}: give InlineBinary instead of Value.")
    made = list(_values(vr, listed, where, depth))
    if all(value is None for value in made):
        made = []
    return element(vr, *made)


def _binary(vr: str, given: dict[str, Any], where: str) -> dict[str, Any]:
    text = given["InlineBinary"]
    if "Value" in given or vr not in BULK_VRS:
        raise RequestError(
            400, f"{where} has the VR {vr} and can't have {'both Value and ' if 'Value' in given else ''}InlineBinary."
        )
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RequestError(400, f"{where}: InlineBinary is not Base64.") from None
    return {"vr": vr, "InlineBinary": text}


def _values(vr: str, listed: list[Any], where: str, depth: int) -> Iterator[Any]:
    for number, value in enumerate(listed):
        if vr == "SQ":
            yield {} if value is None else _checked(value, f"{where}[{number}].", depth + 1)
        elif value is None or (value == "" and vr not in DECIMAL_VRS | INTEGER_VRS):
            yield None
        elif vr == "PN":
            yield _person_name(value, where)
        elif vr in INTEGER_VRS:
            yield _integer(vr, value, where)
        elif vr in DECIMAL_VRS:
            yield _decimal(vr, value, where)
        elif vr == "AT":
            if not isinstance(value, str) or not is_tag(value):
                raise RequestError(400, f"{where} has the value {_shown(value)}: give a tag of eight hexadecimal digits.")
            yield value.upper()
        else:
            yield _text(vr, value, where)


def _text(vr: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or vr not in TEXT_VRS:
        raise RequestError(400, f"{where} has {_kind(value)} where the VR {vr} has text.")
    if (_LINE_CONTROLS if vr in {"LT", "ST", "UT"} else _CONTROLS).search(value):
        raise RequestError(400, f"{where} has a control character, which the VR {vr} can't have.")
    _encodable(value, where)
    if vr in {"LO", "SH", "CS", "AE", "UI", "DA", "TM", "DT", "AS"} and "\\" in value:
        raise RequestError(400, f"{where} has a backslash in a value: give several values as several members of Value.")
    if vr in {"DA", "DT", "TM"} and _is_range(vr, value):
        raise RequestError(400, f"{where} has the value {_shown(value)}: a range is for searches only.")
    # Padding is no part of a value (PS3.5 6.2).
    made = value.rstrip(" ") if vr in {"LT", "ST", "UT", "UC", "UR"} else value.strip(" ")
    _valid(vr, made, where, value)
    return made


def _is_range(vr: str, value: str) -> bool:
    # The last hyphen of a DT may belong to its offset from UTC.
    return "-" in (re.sub(r"[+-]\d{4}$", "", value) if vr == "DT" and len(value) > 5 else value)


def _valid(vr: str, made: str, where: str, shown: Any) -> None:
    try:
        validate_value(vr, made, config.RAISE)
        if vr in {"DA", "DT"} and made:
            # Its form alone would let 30 February pass.
            datetime.date(int(made[:4]), int(made[4:6] or 1), int(made[6:8] or 1))
    except (ValueError, OverflowError):
        raise RequestError(400, f"{where} has the value {_shown(shown)}, which the VR {vr} can't have (PS3.5 6.2).") from None


def _encodable(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RequestError(400, f"{where} has half of a surrogate pair, which is no character.") from None


def _person_name(value: Any, where: str) -> dict[str, str] | None:
    if not isinstance(value, dict) or not set(value) <= set(NAME_GROUPS):
        raise RequestError(400, f"{where} must be an object of {', '.join(NAME_GROUPS)}, not {_shown(value)}.")
    made = {}
    for group in NAME_GROUPS:
        text = value.get(group)
        if text in (None, ""):
            continue
        if not isinstance(text, str) or "=" in text or "\\" in text or _CONTROLS.search(text):
            raise RequestError(400, f"{where}: {group} has {_shown(text)}, which a person's name can't have.")
        _encodable(text, where)
        _valid("PN", text, where, text)
        # Empty components at the end say nothing (PS3.5 6.2.1.1).
        if text.rstrip(" ^"):
            made[group] = text.rstrip(" ^")
    return made or None


def _integer(vr: str, value: Any, where: str) -> int:
    least, greatest = _INTEGER_RANGES[vr]
    number = value
    if isinstance(value, str) and re.fullmatch(r" *[+-]?\d{1,20} *", value, re.ASCII):
        number = int(value)
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= greatest:
        raise RequestError(400, f"{where} has the value {_shown(value)}: the VR {vr} has an integer from {least} to {greatest}.")
    return number


def _decimal(vr: str, value: Any, where: str) -> float | int:
    number = value
    if isinstance(value, str) and re.fullmatch(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", value, re.ASCII) and len(value) <= 64:
        number = float(value)
        number = int(number) if number.is_integer() and abs(number) < 2**53 else number
    try:
        finite = not isinstance(number, bool) and isinstance(number, (int, float)) and math.isfinite(number)
    except OverflowError:
        finite = False
    if not finite:
        raise RequestError(400, f"{where} has the value {_shown(value)}: the VR {vr} has a finite number.")
    return number


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return kinds.get(type(value), "nothing")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = str(type(value).__name__)
    return text if len(text) <= 80 else f"{text[:77]}..."
