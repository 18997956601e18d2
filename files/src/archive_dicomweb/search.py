"""QIDO-RS (PS3.18 10.6) over the index; what that lacks is read from the instances' files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence, Set

from dicomweb.dataset import Dataset, element, first
from dicomweb.http import many_datasets, public_url, warning_headers
from dicomweb.instances import Scope
from dicomweb.levels import LEVELS, RETURNED, UNIQUE, level_of
from dicomweb.matching import Test, test_of
from dicomweb.negotiation import DICOM_JSON
from dicomweb.query import Matching, Query
from dicomweb.search import TOO_MANY, Asked, read_search
from service.database import Connection, took_too_long
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.conditions import ALIASES, Conditions
from archive_dicomweb.files import Files, with_addresses
from archive_dicomweb.index import ALWAYS_INDEXED, SOP_CLASS, Index, Resource
from archive_dicomweb.kept import Kept
from archive_dicomweb.kept_answer import kept_answer
from archive_dicomweb.values import doubtful, misread

_UNREAD = "Some attributes lack: the files of their instances can't be read."
_PAGE = 500
# Resources of a search of which it is looked into files whether the index has their texts rightly.
_MOST_DOUBTED = 2000
_MODALITIES, _SOP_CLASSES = "00080061", "00080062"
_AVAILABILITY, _RETRIEVE_URL = "00080056", "00081190"
_STUDY_SERIES, _STUDY_INSTANCES, _SERIES_INSTANCES = "00201206", "00201208", "00201209"
# Made of what is below, and of nothing in the instances.
_COMPUTED = {
    "STUDY": frozenset((_MODALITIES, _SOP_CLASSES, _STUDY_SERIES, _STUDY_INSTANCES, _AVAILABILITY)),
    "SERIES": frozenset((_SERIES_INSTANCES,)),
    "IMAGE": frozenset((_AVAILABILITY,)),
}


class Search:
    """One search. `lowest` is the level of its results, `given` the UIDs of its address by level, `base` that of DICOMweb."""

    def __init__(self, index: Index, files: Files, lowest: str, query: Query, given: dict[str, str], base: str) -> None:
        self._index = index
        self._files = files
        self._lowest = lowest
        self._base = base
        self._levels = LEVELS[: LEVELS.index(lowest) + 1]
        self._query = query
        self._given = given
        self._keys: dict[str, Matching] = {level: {} for level in self._levels}
        for tag, value in query.matching.items():
            self._keys[level_of(tag, lowest)][tag] = value
        self._to_doubt = _MOST_DOUBTED
        self.has_unread = False
        """Whether results lack what stands in files that couldn't be read, maybe for now."""
        self._tests: dict[str, Test] = {level: test_of(keys, fuzzy=query.fuzzy) for level, keys in self._keys.items()}
        below = {tag for level in self._levels if level not in given for tag in RETURNED[level]}
        self._wanted = {_AVAILABILITY, _RETRIEVE_URL, *below, *query.matching, *query.include} | {
            UNIQUE[level] for level in self._levels
        }

    async def results(self, most: int) -> tuple[list[Dataset], bool]:
        """Return at most so many results beyond the offset, and whether there are more.

        Studies come from the newest on, series and instances in the order in which they came.
        """

        async def work(connection: Connection) -> tuple[list[Dataset], bool]:
            found: list[Dataset] = []
            to_skip = self._query.offset
            async for attributes in self._matching(connection, to_skip + most + 1):
                if to_skip:
                    to_skip -= 1
                elif len(found) == most:
                    return found, True
                else:
                    found.append(attributes)
            return found, False

        return await self._index.read(work)

    def _conditions(self) -> Conditions:
        made = Conditions()
        for level in self._levels:
            if level in self._given:
                made.add_uids(level, [self._given[level]])
            made.add(level, self._keys[level], ALWAYS_INDEXED[level], fuzzy=self._query.fuzzy)
        return made

    async def _matching(self, connection: Connection, wanted: int) -> AsyncIterator[Dataset]:
        deadline = self._index.deadline()
        async for page in self._pages(connection, self._conditions(), wanted):
            # Pages without a match say nothing, and an archive has many.
            if time.monotonic() > deadline:
                raise took_too_long()
            resources = await self._with_attributes(connection, page)
            for keys in page:
                above: Dataset = {}
                for level, key in zip(self._levels, keys, strict=True):
                    if not self._tests[level](resources[key].attributes):
                        break
                    above = above | resources[key].attributes
                else:
                    yield self._result(above)

    async def _pages(self, connection: Connection, conditions: Conditions, wanted: int) -> AsyncIterator[list[tuple[int, ...]]]:
        """Yield the keys of what the conditions let through, from the study's down, a page at a time.

        The first page has no more than are `wanted`, which mostly is enough.
        """
        tables = "resources study"
        for level, upper in zip(self._levels[1:], self._levels, strict=False):
            tables += f" JOIN resources {ALIASES[level]} ON {ALIASES[level]}.parentid = {ALIASES[upper]}.internalid"
        keys = [f"{ALIASES[level]}.internalid" for level in self._levels]
        # Those of one study are few enough to be listed at once, and then no estimate leads past what its UID finds.
        is_bounded = "STUDY" in self._given
        direction, beyond = ("DESC", "<") if self._lowest == "STUDY" else ("ASC", ">")
        last: int | None = None
        size = min(_PAGE, wanted)
        while True:
            after = "" if last is None else f" AND {keys[-1]} {beyond} {last}"
            order = ", ".join(keys) if is_bounded else f"{keys[-1]} {direction} LIMIT {size}"
            cursor = await connection.execute(
                f"SELECT {', '.join(keys)} FROM {tables} WHERE {conditions.text}{after} ORDER BY {order}",
                conditions.given,
            )
            found = await cursor.fetchall()
            for start in range(0, len(found), _PAGE):
                yield found[start : start + _PAGE]
            if is_bounded or len(found) < size:
                return
            last, size = found[-1][-1], _PAGE

    async def _with_attributes(self, connection: Connection, page: Sequence[tuple[int, ...]]) -> dict[int, Resource]:
        """Return the resources of a page and of what they are of, with what is known of each without its files, by their keys."""
        made: dict[int, Resource] = {}
        for depth, level in enumerate(self._levels):
            for keys in page:
                made.setdefault(keys[depth], Resource(level))
        await self._index.fill(connection, made)
        for level in self._levels:
            of_level = {key: resource for key, resource in made.items() if resource.level == level}
            await self._compute(connection, level, of_level)
            await self._complete(connection, level, of_level)
        return made

    async def _compute(self, connection: Connection, level: str, resources: dict[int, Resource]) -> None:
        if level == "STUDY":
            await self._count(connection, resources)
        elif level == "SERIES":
            counts = await self._index.counts(connection, list(resources))
            for key, resource in resources.items():
                resource.attributes[_SERIES_INSTANCES] = element("IS", counts.get(key, 0))
        if level != "SERIES":
            for resource in resources.values():
                resource.attributes[_AVAILABILITY] = element("CS", "ONLINE")

    async def _count(self, connection: Connection, studies: dict[int, Resource]) -> None:
        series = await self._index.children(connection, list(studies))
        counts = await self._index.counts(connection, [key for keys in series.values() for key in keys])
        for key, study in studies.items():
            below = series.get(key, {})
            study.attributes[_MODALITIES] = element("CS", *dict.fromkeys(filter(None, below.values())))
            study.attributes[_STUDY_SERIES] = element("IS", len(below))
            study.attributes[_STUDY_INSTANCES] = element("IS", sum(counts.get(each, 0) for each in below))
        if _SOP_CLASSES in self._wanted or self._query.include_all:
            classes = await self._index.sop_classes(connection, list(studies))
            for key, study in studies.items():
                study.attributes[_SOP_CLASSES] = element("UI", *classes.get(key, ()))

    async def _complete(self, connection: Connection, level: str, resources: dict[int, Resource]) -> None:
        """Read from files what is asked for at a level and the index doesn't have, even where instances have it, or has wrongly."""
        asked = {*self._keys[level], *(tag for tag in self._query.include if level_of(tag, self._lowest) == level)}
        if level not in self._given:
            asked.update(RETURNED[level])
        asked -= _COMPUTED[level] | {SOP_CLASS}
        needed = self._keys[level].keys() | (self._wanted if level not in self._given or self._query.include_all else set())
        wrong = await self._misread(connection, level, resources, needed)
        lacking = {
            key: missing
            for key, resource in resources.items()
            if (missing := (asked - resource.indexed - resource.attributes.keys()) | wrong.get(key, frozenset()))
            or self._query.include_all
        }
        if not lacking:
            return
        some = await self._index.some_files(connection, level, list(lacking))
        models = await self._files.attributes([some[key] for key in lacking if key in some])
        self.has_unread |= any(file.uuid not in models for file in some.values())
        for key, missing in lacking.items():
            read = models.get(some[key].uuid, {}) if key in some else {}
            resource = resources[key]
            if self._query.include_all:
                missing |= {tag for tag in read if level_of(tag, self._lowest) == level and tag not in resource.attributes}
            resource.attributes.update((tag, with_addresses(read[tag], read, self._base)) for tag in missing if tag in read)

    async def _misread(
        self, connection: Connection, level: str, resources: dict[int, Resource], needed: Set[str]
    ) -> dict[int, frozenset[str]]:
        """Return the texts that the index has wrongly, by the keys of what they are of."""
        wrong = {key: misread(resource.attributes) & needed for key, resource in resources.items()}
        doubted = {key: texts for key, resource in resources.items() if (texts := doubtful(resource.attributes) & needed)}
        chosen = [key for key in doubted if not wrong[key]][: self._to_doubt]
        if chosen:
            self._to_doubt -= len(chosen)
            some = await self._index.some_files(connection, level, chosen)
            uuids = await self._files.misread(list(some.values()))
            wrong |= {key: doubted[key] for key, file in some.items() if file.uuid in uuids}
        return wrong

    def _result(self, attributes: Dataset) -> Dataset:
        if self._query.include_all:
            return attributes
        return {tag: value for tag, value in attributes.items() if tag in self._wanted}


def _addressed(attributes: Dataset, levels: Iterable[str], base: str) -> Dataset:
    uids = [first(attributes, UNIQUE[level]) or "" for level in levels]
    return dict(sorted((attributes | {_RETRIEVE_URL: element("UR", Scope(*uids).address(base))}).items()))


async def answer_search(index: Index, files: Files, kept: Kept, most: int, lowest: str, request: Request) -> Response:
    """Answer a search at a level; raise RequestError (400) that names the parameter which is wrong."""
    asked = read_search(request)
    if not _is_list_of_instances(asked, lowest):
        return await _searched(index, files, most, lowest, request, asked)
    scope = Scope(*asked.given.values())
    signature = await index.signature(scope, with_tags=True)
    if not signature:
        return await _searched(index, files, most, lowest, request, asked)
    fields = "all" if asked.query.include_all else " ".join(sorted(asked.query.include))
    name = kept.name(signature, f"{public_url(request)} {scope} {most} {fields}")
    file = await asyncio.to_thread(kept.find, name)
    if file:
        return kept_answer(request, file, {"Cache-Control": "no-cache"})
    answer = await _searched(index, files, most, lowest, request, asked)
    is_whole = answer.status_code == 200 and "warning" not in answer.headers
    if is_whole and await index.signature(scope, with_tags=True) == signature:
        await asyncio.to_thread(kept.keep, name, bytes(answer.body))
    return answer


def _is_list_of_instances(asked: Asked, lowest: str) -> bool:
    """Return whether all instances of a study or a series are asked for, which only what they are changes."""
    query = asked.query
    is_all = not query.matching and query.limit is None and not query.offset
    return lowest == "IMAGE" and "STUDY" in asked.given and is_all and asked.kind == DICOM_JSON


async def _searched(index: Index, files: Files, most: int, lowest: str, request: Request, asked: Asked) -> Response:
    limit = most if asked.query.limit is None else min(asked.query.limit, most)
    base = public_url(request)
    search = Search(index, files, lowest, asked.query, asked.given, base)
    found, is_cut = await search.results(limit)
    levels = LEVELS[: LEVELS.index(lowest) + 1]
    results = [_addressed(attributes, levels, base) for attributes in found]
    is_too_much = is_cut and limit == most and asked.query.limit != most
    warnings = (*((TOO_MANY,) if is_too_much else ()), *((_UNREAD,) if search.has_unread else ()))
    headers = {"Cache-Control": "no-cache"} | warning_headers(request, warnings)
    return many_datasets(results, asked.kind, 200, headers) if results else Response(status_code=204, headers=headers)
