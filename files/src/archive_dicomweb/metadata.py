"""Metadata (PS3.18 10.4.1.1.4) as JSON: made once, compressed, and kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from dicomweb.answers import Stream
from dicomweb.http import accept_of, public_url
from dicomweb.instances import Source
from dicomweb.negotiation import DICOM_JSON, answer_type
from dicomweb.retrieval_request import scope_of
from dicomweb.wado import Wado
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.archive import Archive
from archive_dicomweb.index import Index
from archive_dicomweb.kept import Entry, Kept, signature_of
from archive_dicomweb.kept_answer import VARY, is_gzip_taken, kept_answer


class KeptWado(Wado):
    """Answers retrievals; metadata that somebody asked for before are sent as they are."""

    def __init__(self, archive: Archive, index: Index, kept: Kept) -> None:
        super().__init__(archive)
        self._index = index
        self._kept = kept

    async def metadata(self, request: Request) -> Response:
        """Answer with the attributes of instances, without what is large."""
        scope, base = scope_of(request), public_url(request)
        # One instance's are made sooner than looked for.
        if scope.instance or answer_type(accept_of(request)) != DICOM_JSON:
            return await super().metadata(request)
        signature = await self._index.signature(scope)
        file = await asyncio.to_thread(self._kept.find, self._kept.name(signature, base)) if signature else None
        if file:
            return kept_answer(request, file)
        is_compressed = is_gzip_taken(request)
        headers = VARY | ({"Content-Encoding": "gzip"} if is_compressed else {})
        async with contextlib.AsyncExitStack() as holds:
            source = await holds.enter_async_context(self._archive.open(scope))
            # Of what is sent, which may be another than the index had a moment ago.
            name = self._kept.name(signature_of(instance.path.name for instance in source.instances), base)
            entry = await asyncio.to_thread(self._kept.new, name)
            pieces = self._json(source, scope, base)
            if entry:
                holds.callback(entry.close)
                pieces = _kept_pieces(pieces, entry, source, is_compressed=is_compressed)
            elif is_compressed:
                headers.pop("Content-Encoding")
            return Stream(pieces, DICOM_JSON, holds.pop_all(), headers)
        raise AssertionError


async def _kept_pieces(
    pieces: AsyncGenerator[bytes], entry: Entry, source: Source, *, is_compressed: bool
) -> AsyncGenerator[bytes]:
    """Yield the pieces of an answer, and have the whole of it kept, unless something of it couldn't be read."""
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            made = await asyncio.to_thread(entry.add, piece)
            sent = made if is_compressed else piece
            if sent:
                yield sent
    end = await asyncio.to_thread(entry.end if source.has_unread else entry.keep)
    if is_compressed:
        yield end
