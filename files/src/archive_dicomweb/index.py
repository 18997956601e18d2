"""Orthanc's index in PostgreSQL, read by SQL.

Its schema is version 6, as it has been since 2016: `resources` with the levels from patient to instance, and of each resource its
attributes (`maindicomtags`, and those that are looked for, in upper case, in `dicomidentifiers`), Orthanc's notes (`metadata`) and
its files (`attachedfiles`).
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
from dicomweb.dataset import Dataset
from dicomweb.errors import RequestError
from dicomweb.instances import Scope
from psycopg import IsolationLevel, errors
from psycopg_pool import PoolTimeout
from service.database import Connection, Pool, took_too_long, unavailable

from archive_dicomweb.conditions import Conditions
from archive_dicomweb.values import attribute, sequences

SCHEMA = "6"
"""The version that this reads; `globalproperties` has it under 1."""

_Result = TypeVar("_Result")


class UnknownIndexError(RequestError):
    """The index is of a version that this doesn't read."""


_DICOM_FILE = 1
_NOT_COMPRESSED = 1
# Of each image by itself (`OFFSET 0`): a join may begin with the files of all.
_ITS_FILE = (
    f"CROSS JOIN LATERAL (SELECT * FROM attachedfiles WHERE id = image.internalid AND filetype = {_DICOM_FILE} OFFSET 0) AS file"
)
# Of metadata.
_SYNTAX, _SOP_CLASS, _SIGNATURE, _SEQUENCES = 9, 10, 15, 16

# Those that an Orthanc before 1.11 has, or one without ExtraMainDicomTags, of which it doesn't tell.
SOP_CLASS = "00080016"
"""Which the index has as a note of Orthanc's, unless it is told to have it as an attribute."""

# Seconds for which the index is taken to be of the version that it was, and instances to have the files that they had.
_KNOWN_SECONDS = 60
# Kept at a time, some 500 bytes each.
_MOST_SIGNATURES = 1000
_TAG = re.compile(r"([0-9a-f]{4}),([0-9a-f]{4})")
_ALWAYS_INDEXED = {
    "STUDY": (
        "00080020 00080030 00080050 00080080 00080090 00081030 00100010 00100020 00100030 00100040 00101000 0020000D 00200010 "
        "00321032 00321060"
    ),
    "SERIES": (
        "00080021 00080031 00080060 00080070 0008103E 00081010 00081070 00180010 00180015 00180024 00181030 00181090 00181400 "
        "0020000E 00200011 00200037 00200105 00201002 00400254 00540081 00540101 00541000"
    ),
    "IMAGE": "00080012 00080013 00080018 00200012 00200013 00200032 00200037 00200100 00204000 00280008 00541330",
}
ALWAYS_INDEXED = {level: frozenset(tags.split()) for level, tags in _ALWAYS_INDEXED.items()}


@dataclass(frozen=True)
class StoredFile:
    """The DICOM file of an instance: `uuid` names one stored version of it, and `size` is in bytes."""

    study: str
    series: str
    uid: str
    sop_class: str
    syntax: str
    uuid: str
    size: int
    is_compressed: bool
    identifier: str
    """Orthanc's own, for its REST API."""


@dataclass
class Resource:
    """A study, a series or an instance."""

    level: str
    attributes: Dataset = field(default_factory=dict)
    indexed: frozenset[str] = frozenset()
    """Tags that the index has where the instances have them."""


@dataclass(frozen=True)
class _Signed:
    """Files of a scope, which are taken to be these as long as it has the same members, until a time of the monotonic clock."""

    members: tuple[int, ...]
    signature: str
    until: float


class Index:
    """The index. Each method raises RequestError (503) where the database stays away, or takes too long."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        """`seconds` is how long all statements of a search may take together; 0 for any."""
        self._pool = pool
        self._seconds = seconds
        self._known_until = 0.0
        self._signatures: dict[Scope, _Signed] = {}

    def deadline(self) -> float:
        """Return until when a search that begins now may go on, by the monotonic clock."""
        return time.monotonic() + (self._seconds or math.inf)

    @asynccontextmanager
    async def _reading(self, *, is_one_view: bool) -> AsyncIterator[Connection]:
        """Have a connection, in one view of the database where that is wanted."""
        try:
            async with self._pool.connection() as connection, connection.transaction() if is_one_view else nullcontext():
                yield connection
        except PoolTimeout:
            raise unavailable() from None
        except errors.QueryCanceled:
            raise took_too_long() from None

    async def read(self, work: Callable[[Connection], Awaitable[_Result]], *, is_one_view: bool = True) -> _Result:
        """Return what `work` reads; it is called again where the connection is lost, as a restart of the database ends each.

        Without `is_one_view`, which a single statement doesn't need, each of its statements sees what is there by then.
        """
        for _ in range(self._pool.max_size + 1):
            try:
                async with self._reading(is_one_view=is_one_view) as connection:
                    # An upgrade of Orthanc may change it at any time.
                    if time.monotonic() > self._known_until:
                        await _check(connection)
                        self._known_until = time.monotonic() + _KNOWN_SECONDS
                    return await work(connection)
            except psycopg.OperationalError:
                continue
        raise unavailable()

    async def problem(self) -> str:
        """Return why this index can't be read, or nothing."""
        try:
            await self.read(_check)
        except RequestError as error:
            return error.message
        except psycopg.Error as error:
            return f"Orthanc's index can't be read: {str(error).strip()[:200]}"
        return ""

    async def files(self, scope: Scope) -> list[StoredFile]:
        """Return the files of a scope, in the order in which series and instances came."""
        return await self.read(lambda connection: _files(connection, scope), is_one_view=False)

    async def signature(self, scope: Scope, *, with_tags: bool = False) -> str:
        """Return `signature_of` the files of a scope, nothing where there are none.

        `with_tags`, it is another one where the index was told to have other attributes of them. Without, instances that were
        there a minute ago are taken to have the files that they had then: only an administrator's `reconstruct` gives them others.
        """
        if with_tags:
            return await self.read(lambda connection: _signature(connection, scope, with_tags=True), is_one_view=False)
        known = self._signatures.get(scope)
        if known and time.monotonic() < known.until:
            members = await self.read(lambda connection: _members(connection, scope), is_one_view=False)
            if members == known.members:
                return known.signature
        made = await self.read(lambda connection: _signed(connection, scope))
        self._signatures.pop(scope, None)
        self._signatures[scope] = made
        if len(self._signatures) > _MOST_SIGNATURES:
            del self._signatures[next(iter(self._signatures))]
        return made.signature

    async def identifiers(self, scope: Scope) -> list[str]:
        """Return Orthanc's own identifiers of a study, a series or an instance: of several, where patients have it in common."""
        return await self.read(lambda connection: _identifiers(connection, scope), is_one_view=False)

    async def patients(self, study: str) -> list[str]:
        """Return the identifiers of the patients who have a study of this UID: mostly of one, or of none."""
        conditions = _conditions(Scope(study))

        async def work(connection: Connection) -> list[str]:
            cursor = await connection.execute(
                f"""SELECT tag.value FROM resources study
                JOIN maindicomtags tag ON tag.id = study.parentid AND tag.taggroup = 16 AND tag.tagelement = 32
                WHERE {conditions.text}""",
                conditions.given,
            )
            return [identifier.strip(" \0") for (identifier,) in await cursor.fetchall()]

        return await self.read(work, is_one_view=False)

    async def fill(self, connection: Connection, resources: Mapping[int, Resource]) -> None:
        """Give resources what the index has of them."""
        keys = list(resources)
        cursor = await connection.execute("SELECT id, taggroup, tagelement, value FROM maindicomtags WHERE id = ANY(%s)", (keys,))
        for key, group, number, text in await cursor.fetchall():
            tag = f"{group:04X}{number:04X}"
            resources[key].attributes[tag] = attribute(tag, text)
        for resource in resources.values():
            resource.indexed = ALWAYS_INDEXED[resource.level]
        notes = [_SOP_CLASS, _SIGNATURE, _SEQUENCES]
        cursor = await connection.execute(
            "SELECT id, type, value FROM metadata WHERE id = ANY(%s) AND type = ANY(%s)", (keys, notes)
        )
        for key, kind, text in await cursor.fetchall():
            resource = resources[key]
            if kind == _SOP_CLASS:
                resource.attributes[SOP_CLASS] = attribute(SOP_CLASS, text)
            elif kind == _SEQUENCES:
                resource.attributes.update(sequences(text))
            else:
                resource.indexed |= _tags_of(text)

    async def counts(self, connection: Connection, series: Sequence[int]) -> dict[int, int]:
        """Return how many instances each of these series has; one that has none isn't there."""
        cursor = await connection.execute(
            "SELECT parentid, count(*) FROM resources WHERE parentid = ANY(%s) GROUP BY parentid", (list(series),)
        )
        return dict(await cursor.fetchall())

    async def children(self, connection: Connection, studies: Sequence[int]) -> dict[int, dict[int, str]]:
        """Return the series of each of these studies, with their modalities."""
        cursor = await connection.execute(
            """SELECT series.parentid, series.internalid, coalesce(modality.value, '') FROM resources series
            LEFT JOIN maindicomtags modality
            ON modality.id = series.internalid AND modality.taggroup = 8 AND modality.tagelement = 96
            WHERE series.parentid = ANY(%s) ORDER BY series.internalid""",
            (list(studies),),
        )
        made: dict[int, dict[int, str]] = {}
        for study, series, modality in await cursor.fetchall():
            made.setdefault(study, {})[series] = modality.strip(" \0")
        return made

    async def sop_classes(self, connection: Connection, studies: Sequence[int]) -> dict[int, list[str]]:
        """Return the SOP classes in each of these studies."""
        cursor = await connection.execute(
            f"""SELECT series.parentid, array_agg(DISTINCT class.value) FROM resources series
            JOIN resources image ON image.parentid = series.internalid
            JOIN metadata class ON class.id = image.internalid AND class.type = {_SOP_CLASS}
            WHERE series.parentid = ANY(%s) GROUP BY series.parentid""",
            (list(studies),),
        )
        return dict(await cursor.fetchall())

    async def some_files(self, connection: Connection, level: str, keys: Sequence[int]) -> dict[int, StoredFile]:
        """Return the file of one instance of each of these resources of a level."""
        steps = {"STUDY": 2, "SERIES": 1, "IMAGE": 0}[level]
        key = "own.id"
        tables = "unnest(%s::bigint[]) AS own (id)"
        for step in range(steps):
            first = f"SELECT internalid FROM resources WHERE parentid = {key} ORDER BY internalid LIMIT 1"
            tables += f" CROSS JOIN LATERAL ({first}) AS down{step}"
            key = f"down{step}.internalid"
        cursor = await connection.execute(
            f"""SELECT own.id, file.uuid, file.uncompressedsize, file.compressiontype, image.publicid FROM {tables}
            JOIN resources image ON image.internalid = {key}
            JOIN attachedfiles file ON file.id = {key} AND file.filetype = {_DICOM_FILE}""",
            (list(keys),),
        )
        return {
            found: StoredFile("", "", "", "", "", uuid, size, compression != _NOT_COMPRESSED, identifier)
            for found, uuid, size, compression, identifier in await cursor.fetchall()
        }


def _tags_of(signature: str) -> frozenset[str]:
    """Return the tags that the index was told to have of a resource, when that came."""
    return frozenset("".join(pair).upper() for pair in _TAG.findall(signature))


async def make_ready(connection: Connection) -> None:
    """Have a new connection's transactions see one view of the database, and its other statements stand by themselves.

    Tables are read by their indexes: while an archive is filled, the database takes them for as small as they were.
    """
    await connection.set_autocommit(True)
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    await connection.execute("SET enable_seqscan = off")
    # There is no index yet, or one of another version.
    with contextlib.suppress(psycopg.Error):
        await _prepare(connection)


async def _prepare(connection: Connection) -> None:
    """Have the statements of retrievals prepared, and what they need read, before somebody waits for it."""
    study, series, instance = Scope("0"), Scope("0", "0"), Scope("0", "0", "0")
    for scope in (study, series, instance):
        await _files(connection, scope)
    for scope in (study, series):
        await _members(connection, scope)
        await _signature(connection, scope, with_tags=False)
    await _signature(connection, study, with_tags=True)


async def _identifiers(connection: Connection, scope: Scope) -> list[str]:
    conditions = _conditions(scope)
    last = {"STUDY": "study", "SERIES": "series", "IMAGE": "image"}[scope.level]
    tables = "resources study"
    if scope.series:
        tables += " JOIN resources series ON series.parentid = study.internalid"
    if scope.instance:
        tables += " JOIN resources image ON image.parentid = series.internalid"
    cursor = await connection.execute(f"SELECT {last}.publicid FROM {tables} WHERE {conditions.text}", conditions.given)
    return [identifier for (identifier,) in await cursor.fetchall()]


def _conditions(scope: Scope) -> Conditions:
    """Return the conditions that lead to a scope."""
    made = Conditions()
    for level, uid in (("STUDY", scope.study), ("SERIES", scope.series), ("IMAGE", scope.instance)):
        if uid:
            made.add_uids(level, [uid])
    return made


async def _check(connection: Connection) -> None:
    """Raise RequestError (503) where this is no index of Orthanc's, or one of another version."""
    cursor = await connection.execute("SELECT to_regclass('globalproperties')")
    if (await cursor.fetchone()) == (None,):
        raise RequestError(503, "Orthanc has no index in this database yet: try again later.")
    cursor = await connection.execute("SELECT value FROM globalproperties WHERE property = 1")
    found = await cursor.fetchone()
    version = found[0] if found else "none"
    if version != SCHEMA:
        raise UnknownIndexError(503, f"Orthanc's index is of version {version}, and this service reads version {SCHEMA}.")


async def _members(connection: Connection, scope: Scope) -> tuple[int, ...]:
    """Return what is another one as soon as the scope has other instances: one that is replaced has a new number."""
    conditions = _conditions(scope)
    cursor = await connection.execute(
        f"""SELECT count(*), max(image.internalid), sum(hashint8(image.internalid))
        FROM resources study JOIN resources series ON series.parentid = study.internalid
        JOIN resources image ON image.parentid = series.internalid
        WHERE {conditions.text}""",
        conditions.given,
        prepare=True,
    )
    return await cursor.fetchone() or ()


async def _signed(connection: Connection, scope: Scope) -> _Signed:
    until = time.monotonic() + _KNOWN_SECONDS
    return _Signed(await _members(connection, scope), await _signature(connection, scope, with_tags=False), until)


async def _signature(connection: Connection, scope: Scope, *, with_tags: bool) -> str:
    conditions = _conditions(scope)
    signed, tags = "file.uuid", ""
    if with_tags:
        signed = "file.uuid || coalesce(tags.value, '')"
        tags = f"LEFT JOIN metadata tags ON tags.id = image.internalid AND tags.type = {_SIGNATURE}"
    cursor = await connection.execute(
        f"""SELECT encode(sha256(string_agg({signed}, ',' ORDER BY series.internalid, image.internalid)::bytea), 'hex')
        FROM resources study JOIN resources series ON series.parentid = study.internalid
        JOIN resources image ON image.parentid = series.internalid
        {_ITS_FILE} {tags}
        WHERE {conditions.text}""",
        conditions.given,
        prepare=True,
    )
    found = await cursor.fetchone()
    return (found and found[0]) or ""


async def _files(connection: Connection, scope: Scope) -> list[StoredFile]:
    conditions = _conditions(scope)
    cursor = await connection.execute(
        f"""SELECT (SELECT value FROM maindicomtags WHERE id = series.internalid AND taggroup = 32 AND tagelement = 14),
               (SELECT value FROM maindicomtags WHERE id = image.internalid AND taggroup = 8 AND tagelement = 24),
               (SELECT value FROM metadata WHERE id = image.internalid AND type = {_SOP_CLASS}),
               (SELECT value FROM metadata WHERE id = image.internalid AND type = {_SYNTAX}),
               file.uuid, file.uncompressedsize, file.compressiontype, image.publicid
        FROM resources study JOIN resources series ON series.parentid = study.internalid
        JOIN resources image ON image.parentid = series.internalid
        {_ITS_FILE}
        WHERE {conditions.text}
        ORDER BY series.internalid, image.internalid""",
        conditions.given,
        prepare=True,
    )
    return [
        StoredFile(
            scope.study,
            series.strip(" \0"),
            uid.strip(" \0"),
            sop_class or "",
            syntax or "",
            uuid,
            size,
            compression != _NOT_COMPRESSED,
            identifier,
        )
        for series, uid, sop_class, syntax, uuid, size, compression, identifier in await cursor.fetchall()
        if series and uid
    ]
