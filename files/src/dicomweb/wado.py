"""WADO-RS and WADO-URI (PS3.18 10.4, 9.4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from dimse.part10 import EXPLICIT
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.answers import Stream
from dicomweb.dataset import write_json
from dicomweb.decoders import Decoders
from dicomweb.errors import LostError, RequestError
from dicomweb.frame_table import PIXEL_KEYWORDS, OpenFrames, UntoldError
from dicomweb.http import accept_of, pairs, public_url
from dicomweb.instances import Instance, Scope, Source
from dicomweb.metadata import PIXELS, bulk, bulk_paths, opened, read_model, unread_model
from dicomweb.model_text import model_text
from dicomweb.multipart import Parts
from dicomweb.native_xml import write_xml
from dicomweb.negotiation import DICOM, DICOM_JSON, DICOM_XML, answer_type
from dicomweb.pixels import Rendering, frame_of, frames, pixels_of, rendered, transcoded
from dicomweb.retrieval_request import (
    MULTIPART,
    OCTETS,
    checked_uid,
    chosen_syntax,
    frame_numbers,
    rendering,
    scope_of,
    wanted_dicom,
    wanted_frames,
    wants_single,
    whole_number,
)
from dicomweb.syntaxes import NATIVE, frame_type, media_type

_LOG = logging.getLogger("dicomweb")
# Models that one process makes at a time, and how many times as many are made ahead of what is sent.
_MODELS_AT_ONCE, _AHEAD = 50, 2
_PIECE_BYTES = 1 << 18


class Archive(Protocol):
    """Where instances are."""

    def open(self, scope: Scope) -> contextlib.AbstractAsyncContextManager[Source]:
        """Have a scope's instances, at least one of which has begun to come. Raises RequestError where none does."""

    def new_file(self) -> Path:
        """Return a name for a new file."""


class Wado:
    """Answers retrievals."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._decoders = Decoders()

    async def warm(self) -> None:
        """Be ready for the first picture."""
        await self._decoders.warm()

    async def retrieve(self, request: Request) -> Response:
        """Answer with the instances of a study or series, or one, as DICOM files."""
        scope = scope_of(request)
        is_single, syntaxes = wanted_dicom(accept_of(request), scope)
        async with contextlib.AsyncExitStack() as holds:
            source = await holds.enter_async_context(self._archive.open(scope))
            if is_single:
                instance = await anext(source.each(scope))
                syntax = chosen_syntax(instance, syntaxes)
                pieces = self._file(source, instance, syntax)
                return Stream(pieces, f"{DICOM}; transfer-syntax={syntax}", holds.pop_all())
            parts = Parts(DICOM)
            pieces = self._files(source, scope, syntaxes, parts, public_url(request))
            return Stream(pieces, parts.media_type, holds.pop_all())
        raise AssertionError

    async def _files(self, source: Source, scope: Scope, syntaxes: Sequence[str], parts: Parts, base: str) -> AsyncGenerator[bytes]:
        async for instance in source.each(scope):
            syntax = chosen_syntax(instance, syntaxes)
            location = instance.scope.address(base)
            # Together with its first piece: if the very first instance can't be sent, its status says so.
            before = parts.head(f"{DICOM}; transfer-syntax={syntax}", location)
            async for piece in self._file(source, instance, syntax):
                yield before + piece
                before = b""
            yield b"\r\n"
        yield parts.end

    async def _file(self, source: Source, instance: Instance, syntax: str) -> AsyncGenerator[bytes]:
        if syntax == instance.syntax:
            async for piece in source.content(instance):
                yield piece
            return
        await source.whole(instance)
        made = self._archive.new_file()
        try:
            await self._decoders.decode(transcoded, instance.path, syntax, made)
            other = replace(instance, path=made, syntax=syntax, size=made.stat().st_size)
            async for piece in source.content(other):
                yield piece
        finally:
            made.unlink(missing_ok=True)

    async def metadata(self, request: Request) -> Response:
        """Answer with the attributes of instances, without what is large."""
        scope = scope_of(request)
        kind = answer_type(accept_of(request))
        async with contextlib.AsyncExitStack() as holds:
            source = await holds.enter_async_context(self._archive.open(scope))
            if kind == DICOM_XML:
                parts = Parts(DICOM_XML)
                return Stream(self._xml(source, scope, parts, public_url(request)), parts.media_type, holds.pop_all())
            return Stream(self._json(source, scope, public_url(request)), DICOM_JSON, holds.pop_all())
        raise AssertionError

    async def _models(self, source: Source, scope: Scope, base: str) -> AsyncGenerator[dict[str, object]]:
        async for instance in source.each(scope):
            await source.whole(instance)
            try:
                yield await self._decoders.read(read_model, instance.path, f"{instance.scope.address(base)}/bulkdata")
            except RequestError as error:
                _pass_over(error, instance, source, scope)
                yield unread_model(instance)

    async def _json(self, source: Source, scope: Scope, base: str) -> AsyncGenerator[bytes]:
        before = b"["
        async with contextlib.aclosing(self._texts(source, scope, base)) as texts:
            async for text in texts:
                yield before + text
                before = b","
        yield b"]"

    async def _texts(self, source: Source, scope: Scope, base: str) -> AsyncGenerator[bytes]:
        """Yield the models of instances, joined by commas: one by one as they come, many at a time of those that are there."""
        waiting: list[tuple[Instance, str]] = []
        running: deque[asyncio.Task[_Models]] = deque()
        try:
            async for instance in source.each(scope):
                await source.whole(instance)
                waiting.append((replace(instance), f"{instance.scope.address(base)}/bulkdata"))
                is_alone = not source.stays(instance)
                if is_alone or len(waiting) == _MODELS_AT_ONCE:
                    run = self._decoders.read if is_alone else self._decoders.decode
                    running.append(asyncio.create_task(run(_models_text, waiting)))
                    waiting = []
                while len(running) > (0 if is_alone else _AHEAD):
                    yield _told(await running.popleft(), source, scope)
            if waiting:
                # Of a few, a process would be started in vain.
                run = self._decoders.decode if running else self._decoders.read
                running.append(asyncio.create_task(run(_models_text, waiting)))
            while running:
                yield _told(await running.popleft(), source, scope)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _xml(self, source: Source, scope: Scope, parts: Parts, base: str) -> AsyncGenerator[bytes]:
        async for made in self._models(source, scope, base):
            yield parts.part(DICOM_XML, write_xml(made))
        yield parts.end

    async def bulk_data(self, request: Request) -> Response:
        """Answer with one value of an instance."""
        scope = scope_of(request)
        is_single = wants_single(accept_of(request), OCTETS)
        path = request.path_params["path"]
        async with contextlib.AsyncExitStack() as holds:
            instance = await holds.enter_async_context(self._one(scope))
            pixels = await self._opened_value(instance, path, holds)
            if not pixels:
                content = await self._decoders.read(_bulk, instance.path, path)
                return _answered(content, OCTETS, is_single=is_single)
            pieces = self._value(pixels)
            if is_single:
                return Stream(pieces, OCTETS, holds.pop_all(), {"Content-Length": str(pixels.value_bytes)})
            parts = Parts(OCTETS)
            return Stream(_one_part(parts, OCTETS, pieces), parts.media_type, holds.pop_all())
        raise AssertionError

    async def _opened(self, instance: Instance, holds: contextlib.AsyncExitStack) -> OpenFrames | None:
        """Have the frames of an instance as long as `holds`; None where they have no places of their own in its file."""
        try:
            pixels = await self._decoders.read(OpenFrames, instance.path)
        except UntoldError:
            return None
        holds.callback(pixels.close)
        return pixels

    async def _opened_value(self, instance: Instance, path: str, holds: contextlib.AsyncExitStack) -> OpenFrames | None:
        """Have what is at a path as long as `holds`, where that is pixels which can be read a piece at a time."""
        if path not in PIXELS:
            return None
        try:
            pixels = await self._opened(instance, holds)
        except LostError:
            raise
        except RequestError:
            # Whose frames can't be told apart has a value all the same.
            return None
        return pixels if pixels and pixels.table.keyword == PIXEL_KEYWORDS[int(path, 16)] else None

    async def _value(self, pixels: OpenFrames) -> AsyncGenerator[bytes]:
        """Yield all pixels as they are stored, a piece at a time."""
        for at in range(0, pixels.value_bytes, _PIECE_BYTES):
            yield await self._decoders.read(pixels.piece, at, _PIECE_BYTES)

    async def all_bulk_data(self, request: Request) -> Response:
        """Answer with all bulk data of instances, a part each with its address (PS3.18 10.4.1.1.5)."""
        scope = scope_of(request)
        if wants_single(accept_of(request), OCTETS):
            raise RequestError(406, f"Bulk data are several parts: accept {MULTIPART}.")
        async with contextlib.AsyncExitStack() as holds:
            source = await holds.enter_async_context(self._archive.open(scope))
            parts = Parts(OCTETS)
            return Stream(self._values(source, scope, parts, public_url(request)), parts.media_type, holds.pop_all())
        raise AssertionError

    async def _values(self, source: Source, scope: Scope, parts: Parts, base: str) -> AsyncGenerator[bytes]:
        async for instance in source.each(scope):
            await source.whole(instance)
            address = f"{instance.scope.address(base)}/bulkdata/"
            async with contextlib.AsyncExitStack() as holds:
                for path in await self._bulk_listed(instance, source, scope):
                    pixels = await self._opened_value(instance, path, holds)
                    if pixels and instance.syntax not in NATIVE:
                        # A part for each frame (PS3.18 8.7.3.3).
                        for number in range(1, pixels.table.there + 1):
                            content = await self._decoders.read(pixels.frame, number)
                            yield parts.head(frame_type(instance.syntax), address + path) + content + b"\r\n"
                    elif pixels:
                        yield parts.head(OCTETS, address + path)
                        async for piece in self._value(pixels):
                            yield piece
                        yield b"\r\n"
                    else:
                        content = await self._decoders.read(_bulk, instance.path, path)
                        yield parts.head(OCTETS, address + path) + content + b"\r\n"
        yield parts.end

    async def _bulk_listed(self, instance: Instance, source: Source, scope: Scope) -> list[str]:
        try:
            return list(bulk_paths(await self._decoders.read(read_model, instance.path, "")))
        except RequestError as error:
            _pass_over(error, instance, source, scope)
            return []

    async def frames(self, request: Request) -> Response:
        """Answer with frames of an instance, in the order in which they are asked for."""
        scope, numbers = scope_of(request), frame_numbers(request)
        async with contextlib.AsyncExitStack() as holds:
            instance = await holds.enter_async_context(self._one(scope))
            is_single, syntax = wanted_frames(accept_of(request), instance.syntax)
            if is_single and len(numbers) > 1:
                raise RequestError(406, f"{len(numbers)} frames are several parts: accept {MULTIPART}.")
            kind = f"{media_type(syntax)}; transfer-syntax={syntax}"
            pieces = self._frames(instance, numbers, await self._opened(instance, holds), is_native=syntax in NATIVE)
            if len(numbers) == 1:
                return _answered(await anext(pieces), kind, is_single=is_single)
            parts = Parts(kind.partition(";")[0])
            return Stream(_many_parts(parts, kind, pieces), parts.media_type, holds.pop_all())
        raise AssertionError

    async def _frames(
        self, instance: Instance, numbers: Sequence[int], pixels: OpenFrames | None, *, is_native: bool
    ) -> AsyncGenerator[bytes]:
        """Yield frames by their numbers, one at a time where each has a place of its own in the file."""
        is_decoded = is_native and instance.syntax not in NATIVE
        if not pixels:
            run = self._decoders.decode if is_decoded else self._decoders.read
            for frame in await run(_frames, instance.path, numbers, is_native):
                yield frame
            return
        for number in numbers:
            pixels.table.checked(number)
        for number in numbers:
            if is_decoded:
                yield await self._decoders.decode(_decoded_frame, instance.path, number)
            else:
                yield await self._decoders.read(pixels.frame, number)

    async def rendered(self, request: Request, *, is_thumbnail: bool = False) -> Response:
        """Answer with an image for people: of the instance asked for, else of the one in the middle."""
        scope = scope_of(request)
        numbers = frame_numbers(request) if "frames" in request.path_params else [None]
        if len(numbers) > 1:
            raise RequestError(400, "One frame can be rendered at a time.")
        how = rendering(pairs(request), accept_of(request))
        async with self._one(scope, is_middle=is_thumbnail) as instance:
            content = await self._decoders.decode(_rendered, instance.path, numbers[0], how, is_thumbnail)
        return Response(content, media_type=how.media_type)

    async def thumbnail(self, request: Request) -> Response:
        """Answer with a small image."""
        return await self.rendered(request, is_thumbnail=True)

    async def uri(self, request: Request) -> Response:
        """Answer WADO-URI."""
        given = {name.lower(): value for name, value in pairs(request)}
        if given.get("requesttype", "WADO").upper() != "WADO":
            raise RequestError(400, f"requestType is {given['requesttype'][:40]!r}: give WADO.")
        names = ("studyuid", "seriesuid", "objectuid")
        missing = [name for name in names if not given.get(name)]
        if missing:
            raise RequestError(400, f"WADO-URI needs studyUID, seriesUID and objectUID: {missing[0]} is missing.")
        scope = Scope(*(checked_uid(given[name]) for name in names))
        # What would be sent in place of these isn't what was asked for, and shows what was to be left out.
        kinds = given.get("contenttype", "")
        undone_here = ("anonymize", "annotation", "region") if DICOM in kinds else ("anonymize", "annotation")
        undone = next((name for name in undone_here if given.get(name, "no").lower() != "no"), None)
        if undone:
            raise RequestError(400, f"{undone} isn't done here: leave it out.")
        if DICOM not in kinds:
            how = rendering(list(given.items()), kinds or "image/jpeg")
            number = whole_number(given.get("framenumber", "1"), "frameNumber")
            async with self._one(scope) as instance:
                content = await self._decoders.decode(_rendered, instance.path, number, how, False)
            return Response(content, media_type=how.media_type)
        syntaxes = [given.get("transfersyntax", EXPLICIT)]
        async with contextlib.AsyncExitStack() as holds:
            source = await holds.enter_async_context(self._archive.open(scope))
            instance = await anext(source.each(scope))
            return Stream(self._file(source, instance, chosen_syntax(instance, syntaxes)), DICOM, holds.pop_all())
        raise AssertionError

    @contextlib.asynccontextmanager
    async def _one(self, scope: Scope, *, is_middle: bool = False) -> AsyncIterator[Instance]:
        """Have one instance that is whole: the first, or the middle one of a study or series."""
        async with self._archive.open(scope) as source:
            found = []
            async for instance in source.each(scope):
                found.append(instance)
                if not is_middle:
                    break
            chosen = found[len(found) // 2]
            await source.whole(chosen)
            yield chosen


class _Models(NamedTuple):
    """Models of instances, joined by commas, and those that can't be read, with the reasons."""

    text: bytes
    unread: list[tuple[Instance, RequestError]]


def _models_text(given: Sequence[tuple[Instance, str]]) -> _Models:
    made: list[str] = []
    unread: list[tuple[Instance, RequestError]] = []
    for instance, url in given:
        try:
            made.append(model_text(instance.path, url))
        except LostError:
            raise
        except RequestError as error:
            unread.append((instance, error))
            made.append(write_json(unread_model(instance)))
    return _Models(",".join(made).encode(), unread)


def _told(models: _Models, source: Source, scope: Scope) -> bytes:
    for instance, error in models.unread:
        _pass_over(error, instance, source, scope)
    return models.text


def _pass_over(error: RequestError, instance: Instance, source: Source, scope: Scope) -> None:
    """Log what is wrong with an instance, and leave the others to be answered with; raise where it alone was asked for."""
    if scope.instance or isinstance(error, LostError):
        raise error
    source.has_unread = True
    _LOG.warning("%s: %s", instance.scope, error.message)


def _bulk(path: Path, name: str) -> bytes:
    return bulk(opened(path), name)


def _frames(path: Path, numbers: Sequence[int], is_native: bool) -> list[bytes]:
    return frames(pixels_of(path), numbers, is_native=is_native)


def _decoded_frame(path: Path, number: int) -> bytes:
    dataset, place = frame_of(path, number)
    return frames(dataset, [place], is_native=True)[0]


def _rendered(path: Path, number: int | None, how: Rendering, is_thumbnail: bool) -> bytes:
    return rendered(*frame_of(path, number, is_middle=is_thumbnail), how, is_thumbnail=is_thumbnail)


def _answered(content: bytes, kind: str, *, is_single: bool) -> Response:
    if is_single:
        return Response(content, media_type=kind)
    parts = Parts(kind.partition(";")[0])
    return Response(parts.part(kind, content) + parts.end, media_type=parts.media_type)


async def _many_parts(parts: Parts, kind: str, contents: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async for content in contents:
        yield parts.part(kind, content)
    yield parts.end


async def _one_part(parts: Parts, kind: str, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield parts.head(kind)
    async for piece in pieces:
        yield piece
    yield b"\r\n" + parts.end
