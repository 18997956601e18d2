"""QIDO-RS (PS3.18 10.6), as C-FIND at each level in turn: what a peer need not know is how to search over several at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from dicomweb.attributes import vrs_of
from dicomweb.dataset import Dataset as Json
from dicomweb.dataset import element
from dicomweb.http import many_datasets, public_url, warning_headers
from dicomweb.instances import Scope
from dicomweb.levels import ALL, LEVELS, RETURNED, UID_KEYWORDS, UNIQUE, level_of
from dicomweb.metadata import model
from dicomweb.query import Query
from dicomweb.search import TOO_MANY, read_search
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response

from dimse_proxy.archive import Archive, Found
from dimse_proxy.identifiers import LEVEL

_MOST_RESULTS = 5000
_PATIENT_NAME = "00100010"
_RETRIEVE_URL = "00081190"
_WILDCARDS = frozenset("*?")

Keys = dict[str, Any]


class Search:
    """One search, from its request to its results."""

    def __init__(self, archive: Archive, lowest: str, query: Query, given: dict[str, str]) -> None:
        """`lowest` is the level of the results; `given` has the UIDs of the address, by level."""
        self._archive = archive
        self._lowest = lowest
        self._query = query
        self._keys: dict[str, Keys] = {level: {} for level in LEVELS}
        self._given = given
        self.warnings: list[str] = []
        self.is_empty = False
        for tag, value in query.matching.items():
            self._keys[level_of(tag, lowest)][tag] = self._value(tag, value)
        for tag in query.include:
            self._keys[level_of(tag, lowest)].setdefault(tag, "")
        for level, uid in given.items():
            # Both in the address and as a key: what the address says holds.
            self._keys[level][UNIQUE[level]] = uid
        self._most = min(query.limit if query.limit is not None else _MOST_RESULTS, _MOST_RESULTS)

    def _value(self, tag: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inner: self._value(inner, each) for inner, each in value.items()}
        if vrs_of(tag) == {"UI"}:
            return "\\".join(part.strip() for part in value.replace("\\", ",").split(",") if part.strip())
        if tag == _PATIENT_NAME and value:
            config = self._archive.config
            self.is_empty |= len(value.strip("*?")) < config.qido_min_chars
            if config.qido_append_wildcard and not _WILDCARDS & set(value):
                return f"{value}*"
        return str(value)

    def _asked(self, level: str) -> Keys:
        wanted = RETURNED[level] + (ALL[level] if self._query.include_all else ())
        return dict.fromkeys(wanted, "") | self._keys[level]

    def _starts_at(self) -> str:
        """Return the first level that must be asked: the one below what the address names, where nothing of it is asked for."""
        first = "STUDY"
        for level, below in pairwise(LEVELS):
            if level in self._given and set(self._keys[level]) == {UNIQUE[level]} and level != self._lowest:
                first = below
            else:
                break
        return first

    async def results(self) -> list[Dataset]:
        """Return what matches, from `offset` on, with the attributes of the levels above that were asked for."""
        if self.is_empty:
            return []
        wanted = self._query.offset + self._most
        start = LEVELS.index(self._starts_at())
        above = Dataset()
        for level in LEVELS[:start]:
            setattr(above, UID_KEYWORDS[level], self._given[level])
        rows: list[Dataset] = []
        is_cut = await self._descend(start, above, wanted, rows)
        if is_cut and (self._query.limit is None or self._query.limit > _MOST_RESULTS):
            self.warnings.append(TOO_MANY)
        return rows[self._query.offset : wanted]

    async def _descend(self, depth: int, above: Dataset, wanted: int, rows: list[Dataset]) -> bool:
        level = LEVELS[depth]
        keys = self._asked(level)
        for upper in LEVELS[:depth]:
            keys[UNIQUE[upper]] = str(above[int(UNIQUE[upper], 16)].value)
        is_lowest = level == self._lowest
        most = wanted - len(rows) if is_lowest else _MOST_RESULTS
        found = await self._archive.find(level, keys, max(most, 1), is_fuzzy=self._query.fuzzy)
        self._note(found)
        for row in found.rows:
            merged = Dataset()
            merged.update(above)
            merged.update(row)
            if is_lowest:
                rows.append(merged)
            elif row.get(int(UNIQUE[level], 16)) and await self._descend(depth + 1, merged, wanted, rows):
                return True
            if len(rows) >= wanted:
                return found.is_cut or row is not found.rows[-1]
        return found.is_cut

    def _note(self, found: Found) -> None:
        self.warnings += [problem for problem in found.problems if problem not in self.warnings]
        said = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
        if self._query.fuzzy and not found.is_fuzzy and said not in self.warnings:
            self.warnings.append(said)


def _result(row: Dataset, lowest: str, base: str) -> Json:
    made = model(row, base)
    made.pop(LEVEL, None)
    uids = [str(row.get(name) or "") for name in UID_KEYWORDS.values()][: LEVELS.index(lowest) + 1]
    made[_RETRIEVE_URL] = element("UR", Scope(*uids).address(base))
    return dict(sorted(made.items()))


async def answer_search(archive: Archive, lowest: str, request: Request) -> Response:
    """Answer a search at a level; raise RequestError (400) that names the parameter which is wrong."""
    asked = read_search(request)
    search = Search(archive, lowest, asked.query, asked.given)
    base = public_url(request)
    results = [_result(row, lowest, base) for row in await search.results()] if asked.query.limit != 0 else []
    headers = warning_headers(request, tuple(search.warnings))
    return many_datasets(results, asked.kind, 200, headers) if results else Response(status_code=204, headers=headers)
