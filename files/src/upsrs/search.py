"""A search (PS3.18 11.9) as a condition of SQL.

Exact values are matched by containment, which one index over the whole dataset answers at any depth; state, patient and the three
times of scheduling have columns of their own. All keys within one sequence match in the same item.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass, field
from typing import Any

from dicomweb.attributes import DECIMAL_VRS, INTEGER_VRS, NAME_GROUPS, described, vrs_of
from dicomweb.dataset import Dataset, first
from dicomweb.errors import RequestError
from dicomweb.keys import TIME_VRS, WITHOUT_WILDCARDS, bounds, has_wildcard, number, uids, words
from dicomweb.query import Matching

from upsrs import tags

TIME_COLUMNS = {
    tags.SCHEDULED_START: "scheduled_start",
    tags.MODIFICATION_DATETIME: "modified",
    tags.EXPECTED_COMPLETION: "expected_completion",
}
_TEXT_COLUMNS = {tags.STATE: "state", tags.PATIENT_ID: "patient_id", tags.SOP_INSTANCE_UID: "uid"}
# An offset from UTC goes from -1200 to +1400: what is beyond, after a hyphen, is the year at which a range ends.
_OFFSET = r"[+-](?:0\d|1[0-4])[0-5]\d"
_DATETIME = re.compile(rf"(\d{{4}})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{{1,6}}))?({_OFFSET})?", re.ASCII)
_ONE_TIME = re.compile(rf"\d{{4,14}}(\.\d+)?({_OFFSET})?", re.ASCII)
_TIME_RANGE = re.compile(rf"([\d.]*(?:{_OFFSET})?)-([\d.]*(?:{_OFFSET})?)", re.ASCII)


@dataclass
class Condition:
    """SQL with %s for its values, which are bound in their order."""

    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, sql: str, *values: Any) -> None:
        """Demand this too."""
        self.parts.append(f"({sql})")
        self.values.extend(values)

    @property
    def sql(self) -> str:
        """The whole condition."""
        return " AND ".join(self.parts) or "true"


def condition(matching: Matching, *, fuzzy: bool = False, empty_value: bool = False) -> Condition:
    """Return what a workitem must meet; raise RequestError (400) that names the key whose value can't be."""
    made = Condition()
    keys = dict(matching)
    offset = str(keys.pop(tags.TIMEZONE_OFFSET, "") or "+0000")
    if not re.fullmatch(_OFFSET, offset, re.ASCII):
        raise RequestError(400, f"The key {described(tags.TIMEZONE_OFFSET)} is {offset[:20]!r}: give an offset such as +0100.")
    if tags.TRANSACTION_UID in keys:
        raise RequestError(400, f"{described(tags.TRANSACTION_UID)} is the performer's secret: it can't be searched for.")
    contained: Dataset = {}
    for tag, value in keys.items():
        if not _is_asked(value, empty_value) or not _add_column(made, tag, value, offset, fuzzy):
            _add_key(made, contained, "dataset", tag, value, fuzzy, empty_value)
    if contained:
        made.add("dataset @> %s::jsonb", json.dumps(contained))
    return made


def _is_asked(value: str | Matching, empty_value: bool) -> bool:
    """Return whether a key asks for a value, not for any, for none, or for an item."""
    return isinstance(value, str) and value != "" and not (value == '""' and empty_value)


def _add_column(made: Condition, tag: str, value: str, offset: str, fuzzy: bool) -> bool:
    """Match by a column of its own; return whether the attribute has one."""
    if tag in TIME_COLUMNS:
        low, high = _times(tag, value, offset)
        made.add(f"{TIME_COLUMNS[tag]} >= %s AND {TIME_COLUMNS[tag]} < %s", low, high)
    elif tag in _TEXT_COLUMNS:
        _add_text(made, _TEXT_COLUMNS[tag], tag, value)
    elif tag == tags.PATIENT_NAME and not fuzzy:
        tests, patterns = _name_tests(value, "patient_name_{}")
        made.add(tests, *patterns)
    else:
        return False
    return True


def _add_key(
    made: Condition, contained: Dataset, place: str, tag: str, value: str | Matching, fuzzy: bool, empty_value: bool
) -> None:
    """Match an attribute of the dataset or of the item that is called `place`: by `contained` where its value is exact."""
    if isinstance(value, dict):
        _add_sequence(made, contained, place, tag, value, fuzzy, empty_value)
    elif _is_asked(value, empty_value):
        _add_value(made, contained, place, tag, value, fuzzy)
    elif value:
        made.add(f"NOT coalesce(jsonb_path_exists({place}, '$.\"{tag}\".Value[*] ? (@ != null)'), false)")


def _add_sequence(
    made: Condition, contained: Dataset, place: str, tag: str, item: Matching, fuzzy: bool, empty_value: bool
) -> None:
    """Add the keys of one item: exact values to `contained`, the others as a condition on an item that meets all of them."""
    exact: Dataset = {}
    rest = Condition()
    name = f"item_{tag}"
    for key, value in item.items():
        _add_key(rest, exact, name, key, value, fuzzy, empty_value)
    if exact:
        contained[tag] = {"Value": [exact]}
    if rest.parts:
        if exact:
            rest.add(f"{name} @> %s::jsonb", json.dumps(exact))
        made.add(f"EXISTS (SELECT FROM jsonb_array_elements({place}->'{tag}'->'Value') {name} WHERE {rest.sql})", *rest.values)


def _add_text(made: Condition, column: str, tag: str, value: str) -> None:
    if tag == tags.SOP_INSTANCE_UID:
        made.add(f"{column} = ANY(%s)", uids(tag, value))
    elif has_wildcard(value):
        made.add(f"{column} LIKE %s", _like(value))
    else:
        made.add(f"{column} = %s", value)


def _name_tests(value: str, expression: str) -> tuple[str, list[str]]:
    """Match a name in any of its groups, or in each of those that are given with `=`; `expression` has {} for the group's name."""
    groups = value.split("=")
    if len(groups) == 1:
        return " OR ".join(f"{expression.format(group)} LIKE %s" for group in NAME_GROUPS), [_name_pattern(value)] * len(
            NAME_GROUPS
        )
    given = [(group, text) for group, text in zip(NAME_GROUPS, groups, strict=False) if text]
    tests = " AND ".join(f"{expression.format(group)} LIKE %s" for group, _ in given)
    return tests or "true", [_name_pattern(text) for _, text in given]


def _name_pattern(value: str) -> str:
    return _like(value.lower().rstrip("^ ") or value)


def _add_value(made: Condition, contained: Dataset, place: str, tag: str, value: str, fuzzy: bool) -> None:
    vrs = vrs_of(tag)
    elements = f"jsonb_array_elements_text({place}->'{tag}'->'Value') v"
    if vrs == {"PN"}:
        _add_name(made, place, tag, value, fuzzy)
    elif vrs <= INTEGER_VRS | DECIMAL_VRS:
        contained[tag] = {"Value": [number(tag, value)]}
    elif vrs <= TIME_VRS and "-" in value and not (vrs == {"DT"} and _ONE_TIME.fullmatch(value)):
        low, high = bounds(tag, value)
        made.add(
            f'EXISTS (SELECT FROM {elements} WHERE v COLLATE "C" >= %s AND left(v, %s) COLLATE "C" <= %s)', low, len(high), high
        )
    elif vrs == {"UI"} and re.search(r"[,\\]", value):
        made.add(f"EXISTS (SELECT FROM {elements} WHERE v = ANY(%s))", uids(tag, value))
    elif has_wildcard(value) and not vrs <= WITHOUT_WILDCARDS:
        made.add(f"EXISTS (SELECT FROM {elements} WHERE v LIKE %s)", _like(value))
    else:
        if vrs == {"UI"}:
            uids(tag, value)
        contained[tag] = {"Value": [value]}


def _add_name(made: Condition, place: str, tag: str, value: str, fuzzy: bool) -> None:
    elements = f"jsonb_array_elements({place}->'{tag}'->'Value') v"
    if fuzzy:
        wanted = words(value)
        plain = (
            "lower(regexp_replace(normalize(concat_ws(' ', v->>'Alphabetic', v->>'Ideographic', v->>'Phonetic'), NFKD), "
            r"'[\u0300-\u036F]', '', 'g'))"
        )
        tests = " AND ".join([f"{plain} ~ %s"] * len(wanted)) or "true"
        made.add(f"EXISTS (SELECT FROM {elements} WHERE {tests})", *[rf"(^|[\s^,.-]){re.escape(word)}" for word in wanted])
        return
    tests, patterns = _name_tests(value, 'lower(v->>\'{}\' COLLATE "und-x-icu") COLLATE "C"')
    made.add(f"EXISTS (SELECT FROM {elements} WHERE {tests})", *patterns)


def _like(value: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%").replace("?", "_")


def _times(tag: str, value: str, offset: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the moments between which a DT or a range of two lies, the second excluded."""
    match = None if _ONE_TIME.fullmatch(value) else _TIME_RANGE.fullmatch(value)
    low, high = match.groups() if match else (value, value)
    try:
        least = datetime.datetime(1, 1, 2, tzinfo=datetime.timezone.utc)
        greatest = datetime.datetime(9999, 12, 30, tzinfo=datetime.timezone.utc)
        if not low and not high:
            raise ValueError
        return (span(low, offset)[0] if low else least), (span(high, offset)[1] if high else greatest)
    except (ValueError, OverflowError):
        raise RequestError(
            400, f"The key {described(tag)} is {value[:60]!r}: give a date and time such as 202601312359, or two with a hyphen."
        ) from None


def span(text: str, offset: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the moments at which the time that a DT names begins and ends; `offset` from UTC holds where it has none of its own.

    Raises ValueError or OverflowError where it is none.
    """
    match = _DATETIME.fullmatch(text)
    if not match:
        raise ValueError(text)
    *numbers, fraction, own = match.groups()
    given = [int(number) for number in numbers if number is not None]
    if len(given) < 6 and fraction:
        raise ValueError(text)
    filled = given + [1, 1, 1, 0, 0, 0][len(given) :]
    sign = own or offset
    delta = datetime.timedelta(hours=int(sign[1:3]), minutes=int(sign[3:5])) * (-1 if sign[0] == "-" else 1)
    microseconds = int((fraction or "0").ljust(6, "0"))
    second = min(filled[5], 59)  # a leap second
    year, month, day, hour, minute = filled[:5]
    start = datetime.datetime(year, month, day, hour, minute, second, microseconds, datetime.timezone(delta))
    return start, _end(start, len(given), len(fraction or ""))


def _end(start: datetime.datetime, components: int, digits: int) -> datetime.datetime:
    if components == 1:
        return start.replace(year=start.year + 1)
    if components == 2:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    if digits:
        return start + datetime.timedelta(microseconds=10 ** (6 - digits))
    unit = ("days", "hours", "minutes", "seconds")[components - 3]
    return start + datetime.timedelta(**{unit: 1})


def times_of(dataset: Dataset) -> dict[str, datetime.datetime | None]:
    """Return the values of the columns that times are searched by; None where there is no value that can be read."""
    offset = str(first(dataset, tags.TIMEZONE_OFFSET) or "+0000")
    made: dict[str, datetime.datetime | None] = {}
    for tag, column in TIME_COLUMNS.items():
        value = first(dataset, tag)
        try:
            made[column] = span(value, offset)[0] if value else None
        except (ValueError, OverflowError):
            made[column] = None
    return made
