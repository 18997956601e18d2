"""Which datasets a search finds (PS3.4 C.2.2.2, PS3.18 8.3.4), where they are in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dicomweb.attributes import DECIMAL_VRS, INTEGER_VRS, NAME_GROUPS, vrs_of
from dicomweb.dataset import Dataset, values
from dicomweb.keys import TIME_VRS, WITHOUT_WILDCARDS, bounds, has_wildcard, number, plain, uids, words
from dicomweb.query import Matching

Test = Callable[[Dataset], bool]
_ValueTest = Callable[[Any], bool]


def test_of(matching: Matching, *, fuzzy: bool = False) -> Test:
    """Return what tells whether a dataset matches all keys; raise RequestError (400) for a value that its attribute can't have."""
    tests = [_key(tag, value, fuzzy) for tag, value in matching.items() if value not in ("", "*")]
    return lambda dataset: all(test(dataset) for test in tests)


def _key(tag: str, value: str | Matching, fuzzy: bool) -> Test:
    if isinstance(value, Mapping):
        of_item = test_of(value, fuzzy=fuzzy)
        return lambda dataset: any(of_item(item) for item in values(dataset, tag))
    of_value = _value(tag, value, fuzzy)
    return lambda dataset: any(of_value(each) for each in values(dataset, tag))


def _value(tag: str, value: str, fuzzy: bool) -> _ValueTest:
    vrs = vrs_of(tag)
    if vrs == {"PN"}:
        return _name(value, fuzzy)
    if vrs <= INTEGER_VRS | DECIMAL_VRS:
        wanted = number(tag, value)
        return lambda each: bool(each == wanted)
    if vrs == {"UI"}:
        listed = frozenset(uids(tag, value))
        return lambda each: each in listed
    if vrs <= TIME_VRS and "-" in value:
        low, high = bounds(tag, value)
        return lambda each: each >= low and each[: len(high)] <= high
    if has_wildcard(value) and not vrs <= WITHOUT_WILDCARDS:
        pattern = _pattern(value)
        return lambda each: pattern.fullmatch(str(each)) is not None
    return lambda each: str(each).strip() == value.strip()


def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(re.escape(value).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _name(value: str, fuzzy: bool) -> _ValueTest:
    if fuzzy:
        beginnings = [re.compile(rf"(^|[\s^,.-]){re.escape(word)}") for word in words(value)]
        return lambda name: all(beginning.search(plain(" ".join(name.values()))) for beginning in beginnings)
    groups = value.split("=")
    patterns = [_pattern(group.lower().rstrip("^ ") or group) for group in groups]
    if len(groups) == 1:
        return lambda name: any(patterns[0].fullmatch(group.lower().rstrip("^ ")) for group in name.values())
    wanted = [(group, pattern) for group, text, pattern in zip(NAME_GROUPS, groups, patterns, strict=False) if text]
    return lambda name: all(pattern.fullmatch(name.get(group, "").lower().rstrip("^ ")) for group, pattern in wanted)
