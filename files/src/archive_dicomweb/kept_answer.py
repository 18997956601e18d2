"""Answers of what is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import BinaryIO

from dicomweb.answers import Stream
from dicomweb.negotiation import DICOM_JSON, takes_gzip
from starlette.requests import Request

from archive_dicomweb.kept import decompressed

VARY = {"Vary": "Accept, Accept-Encoding"}
"""Headers of an answer that may be compressed."""
_PIECE_BYTES = 1 << 18


def is_gzip_taken(request: Request) -> bool:
    """Return whether who asks takes what is kept as it is."""
    return takes_gzip(request.headers.get("accept-encoding", ""))


def kept_answer(request: Request, file: BinaryIO, headers: Mapping[str, str] | None = None) -> Stream:
    """Return an answer of an entry, JSON, which closes that at its end."""
    is_compressed = is_gzip_taken(request)
    holds = contextlib.AsyncExitStack()
    holds.enter_context(file)
    coding = {"Content-Encoding": "gzip"} if is_compressed else {}
    return Stream(_pieces(file, is_compressed=is_compressed), DICOM_JSON, holds, VARY | coding | dict(headers or {}))


async def _pieces(file: BinaryIO, *, is_compressed: bool) -> AsyncGenerator[bytes]:
    if is_compressed:
        while piece := file.read(_PIECE_BYTES):
            yield piece
        return
    pieces = decompressed(file, _PIECE_BYTES)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
