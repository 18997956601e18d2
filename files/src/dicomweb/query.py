"""Search parameters (PS3.18 8.3.4): attributes to match, attributes to include, paging."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dicomweb.attributes import described, tag_of, vrs_of
from dicomweb.errors import RequestError

_DEEPEST = 8

Matching = dict[str, Any]
"""Tags with the value asked for; a tag of a sequence with the Matching of one item."""


@dataclass
class Query:
    """A search. `limit` and `offset` count results; `include_all` stands for `includefield=all`."""

    matching: Matching = field(default_factory=dict)
    include: set[str] = field(default_factory=set)
    include_all: bool = False
    fuzzy: bool = False
    empty_value: bool = False
    limit: int | None = None
    offset: int = 0


def parse_query(pairs: Iterable[tuple[str, str]]) -> Query:
    """Read a search from its decoded pairs; raise RequestError (400) that names the parameter which is wrong."""
    query = Query()
    seen: set[str] = set()
    for name, value in pairs:
        lowered = name.lower()
        if lowered in {"limit", "offset", "fuzzymatching", "emptyvaluematching"}:
            if lowered in seen:
                raise RequestError(400, f"The parameter {name} is given twice.")
            seen.add(lowered)
        if lowered == "includefield":
            _include(query, value)
        elif lowered == "limit":
            query.limit = _count(name, value)
        elif lowered == "offset":
            query.offset = _count(name, value)
        elif lowered == "fuzzymatching":
            query.fuzzy = _truth(name, value)
        elif lowered == "emptyvaluematching":
            query.empty_value = _truth(name, value)
        else:
            add_key(query.matching, name, value)
    if query.include_all and query.include:
        raise RequestError(400, "The parameter includefield has all beside attributes: give one or the other.")
    return query


def add_key(matching: Matching, name: str, value: str) -> None:
    """Add `TagOrKeyword[.TagOrKeyword…]` with its value; raise RequestError (400) for one that is unknown or given twice."""
    if "\0" in value or len(value) > 4096:
        raise RequestError(400, f"The key {name[:80]} has a value that no attribute can have.")
    here = matching
    parts = name.split(".")
    if len(parts) > _DEEPEST:
        raise RequestError(400, f"The key {name[:80]} lies in {len(parts) - 1} sequences: a search goes {_DEEPEST - 1} deep.")
    tags = [_tag(part, name) for part in parts]
    for tag in tags[:-1]:
        if "SQ" not in vrs_of(tag):
            raise RequestError(400, f"The key {name[:80]}: {described(tag)} is not a sequence.")
        inner = here.setdefault(tag, {})
        if not isinstance(inner, dict):
            raise RequestError(400, f"The key {described(tag)} is given both with a value and with attributes of its items.")
        here = inner
    last = tags[-1]
    if vrs_of(last) == {"SQ"}:
        if value:
            raise RequestError(
                400, f"The key {name[:80]} is a sequence: name an attribute of its items, as in {name[:80]}.CodeValue=."
            )
        here.setdefault(last, {})
        return
    if last in here:
        raise RequestError(400, f"The key {described(last)} is given twice.")
    here[last] = value


def _tag(part: str, name: str) -> str:
    tag = tag_of(part)
    if tag is None:
        raise RequestError(400, f"The parameter {name[:80]!r} is unknown: {part[:64]!r} is neither a tag nor a keyword.")
    return tag


def _include(query: Query, value: str) -> None:
    for part in filter(None, (part.strip() for part in value.split(","))):
        if part.lower() == "all":
            query.include_all = True
        else:
            query.include.add(_tag(part.split(".")[0], f"includefield={part}"))


def _count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise RequestError(400, f"The parameter {name} is {value[:40]!r}: give a whole number from 0 on.")
    return int(value)


def _truth(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise RequestError(400, f"The parameter {name} is {value[:40]!r}: give true or false.")
    return value.lower() == "true"
