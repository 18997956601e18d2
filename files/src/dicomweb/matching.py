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
        if _is_universal(value):
            return lambda dataset: True
        of_item = test_of(value, fuzzy=fuzzy)
        return lambda dataset: any(of_item(item) for item in values(dataset, tag))
    of_value = _value(tag, value, fuzzy)
    return lambda dataset: any(of_value(each) for each in values(dataset, tag) if each is not None)


def _is_universal(matching: Mapping[str, Any]) -> bool:
    """Return whether keys ask for nothing (PS3.4 C.2.2.2.3)."""
    return all(_is_universal(value) if isinstance(value, Mapping) else value in ("", "*") for value in matching.values())


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
        pattern = _Pattern(value)
        return lambda each: pattern.matches(str(each))
    return lambda each: str(each).strip() == value.strip()


class _Pattern:
    """A value with wildcards. What stands between two `*` is looked for once, from left to right.

    One regular expression for all of it would try each `*` at every place, and take minutes for a dozen of them.
    """

    def __init__(self, value: str) -> None:
        pieces = value.split("*")
        self._lengths = len(pieces[0]), len(pieces[-1])
        self._pieces = [re.compile(re.escape(piece).replace(r"\?", "."), re.DOTALL) for piece in pieces]

    def matches(self, text: str) -> bool:
        """Return whether the whole text is such a value."""
        if len(self._pieces) == 1:
            return self._pieces[0].fullmatch(text) is not None
        begin, end = self._lengths[0], len(text) - self._lengths[1]
        beginning, *middle, ending = self._pieces
        if begin > end or not beginning.match(text) or not ending.match(text, end):
            return False
        for piece in middle:
            found = piece.search(text, begin, end)
            if not found:
                return False
            begin = found.end()
        return True


def _name(value: str, fuzzy: bool) -> _ValueTest:
    if fuzzy:
        beginnings = [re.compile(rf"(^|[\s^,.-]){re.escape(word)}") for word in words(value)]
        return lambda name: all(beginning.search(plain(" ".join(name.values()))) for beginning in beginnings)
    groups = value.split("=")
    patterns = [_Pattern(_folded(group) or group) for group in groups]
    if len(groups) == 1:
        return lambda name: any(patterns[0].matches(_folded(group)) for group in name.values())
    wanted = [(group, pattern) for group, text, pattern in zip(NAME_GROUPS, groups, patterns, strict=False) if text]
    return lambda name: all(pattern.matches(_folded(name.get(group, ""))) for group, pattern in wanted)


def _folded(group: str) -> str:
    """Return a group of a name in lower case, one character for each, without empty components at its end."""
    return group.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower().rstrip("^ ")
