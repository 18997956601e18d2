"""QIDO-RS (PS3.18 10.6) over the index."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import islice

from dicomweb.dataset import Dataset
from dicomweb.http import many_datasets
from dicomweb.levels import LEVELS, RETURNED, UNIQUE, level_of
from dicomweb.matching import Test, test_of
from dicomweb.query import Matching, Query
from dicomweb.search import read_search
from starlette.requests import Request
from starlette.responses import Response

from static_dicomweb.index import Index
from static_dicomweb.layout import Layout
from static_dicomweb.publish import Metadata
from static_dicomweb.rows import Row

_ALWAYS = frozenset(("00080056", "00081190"))


class Search:
    """One search. `lowest` is the level of its results."""

    def __init__(self, layout: Layout, index: Index, lowest: str, query: Query, given: dict[str, str]) -> None:
        self._layout = layout
        self._index = index
        self._lowest = lowest
        self._query = query
        self._levels = LEVELS[: LEVELS.index(lowest) + 1]
        self._given = given
        keys: dict[str, Matching] = {level: {} for level in self._levels}
        for tag, value in query.matching.items():
            keys[level_of(tag, lowest)][tag] = value
        self._tests: dict[str, Test] = {level: test_of(asked, fuzzy=query.fuzzy) for level, asked in keys.items()}
        asked_above = {*query.matching, *query.include}
        below = {tag for level in self._levels if level not in given for tag in RETURNED[level]}
        self._wanted = _ALWAYS | below | asked_above | {UNIQUE[level] for level in self._levels}

    def results(self) -> Iterator[Dataset]:
        """Yield what is found, in the order of studies, series and instances."""
        for attributes, row in self._below(0, {}, "", ""):
            yield self._result(attributes, row)

    def _below(self, depth: int, above: Dataset, study: str, series: str) -> Iterator[tuple[Dataset, Row]]:
        level = self._levels[depth]
        series = "" if level == "STUDY" else series or self._given.get("SERIES", "")
        for row in self._index.rows(level, study or self._given.get("STUDY", ""), series):
            if not self._tests[level](row.attributes):
                continue
            merged = above | row.attributes
            if level == self._lowest:
                yield merged, row
            else:
                yield from self._below(depth + 1, merged, row.study, row.series)

    def _result(self, attributes: Dataset, row: Row) -> Dataset:
        if self._query.include_all:
            return dict(sorted(attributes.items()))
        found = {tag: attribute for tag, attribute in attributes.items() if tag in self._wanted}
        missing = self._query.include - found.keys()
        if missing:
            # What the index doesn't have, the metadata may have.
            found |= {tag: value for tag, value in self._metadata(row).items() if tag in missing}
        return dict(sorted(found.items()))

    def _metadata(self, row: Row) -> Dataset:
        series, uid = row.series, row.uid
        if not uid:
            some = next(self._index.rows("IMAGE", row.study, row.series), None)
            if some is None:
                return {}
            series, uid = some.series, some.uid
        with contextlib.suppress(OSError):
            return Metadata(self._layout.shared(row.study)).attributes(self._layout.instance(row.study, series, uid))
        return {}


async def answer_search(layout: Layout, lowest: str, most: int, request: Request) -> Response:
    """Answer a search at a level; raise RequestError (400) that names the parameter which is wrong."""
    asked = read_search(request)
    limit = most if asked.query.limit is None else min(asked.query.limit, most)

    def search() -> list[Dataset]:
        with contextlib.closing(Index(layout.root)) as index:
            found = Search(layout, index, lowest, asked.query, asked.given).results()
            return list(islice(found, asked.query.offset, asked.query.offset + limit))

    results = await asyncio.to_thread(search)
    return many_datasets(results, asked.kind, 200, {"Cache-Control": "no-cache"}) if results else Response(status_code=204)
