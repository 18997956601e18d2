"""Bodies of several parts (RFC 2046 5.1, RFC 2387), read and written a part at a time."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from email.message import Message

from dicomweb.errors import RequestError

_LARGEST_HEAD = 16384
# RFC 2046 has 70. Orthanc's STOW-RS client takes two UUIDs with a hyphen, 73.
_LONGEST_BOUNDARY = 256


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related":
        raise RequestError(415, f"The Content-Type is {content_type[:80] or 'missing'}: send multipart/related.")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
        raise RequestError(400, f"The Content-Type has no boundary of 1 to {_LONGEST_BOUNDARY} characters of ASCII.")
    return boundary.encode()


class _Reader:
    """A window over a stream."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self.content = b""
        self.is_over = False

    async def more(self) -> None:
        if self.is_over:
            raise RequestError(400, "The body ends within a part.")
        try:
            self.content += await anext(self._stream)
        except StopAsyncIteration:
            self.is_over = True

    async def until(self, mark: bytes, most: int) -> bytes:
        """Return what stands before a mark, and go past it."""
        while mark not in self.content:
            if len(self.content) > most:
                raise RequestError(400, f"The head of a part is longer than {most} bytes.")
            await self.more()
        before, _, self.content = self.content.partition(mark)
        return before

    async def pieces(self, mark: bytes) -> AsyncGenerator[bytes]:
        """Yield what stands before a mark, a piece at a time, and go past it."""
        while True:
            before, found, after = self.content.partition(mark)
            if found:
                self.content = after
                if before:
                    yield before
                return
            # The mark may have begun at the end.
            sure = len(self.content) - len(mark) + 1
            if sure > 0:
                piece, self.content = self.content[:sure], self.content[sure:]
                yield piece
            await self.more()


async def read_parts(content_type: str, stream: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, AsyncGenerator[bytes]]]:
    """Yield each part's media type and its content, which is to be read to its end before the next.

    Raises RequestError (400, 415) where it is no such body, or breaks off.
    """
    delimiter = b"\r\n--" + _boundary(content_type)
    reader = _Reader(stream)
    # The first one may stand at the very beginning.
    reader.content = b"\r\n"
    async for _ in reader.pieces(delimiter):
        pass
    while True:
        while len(reader.content) < 2:
            await reader.more()
        if reader.content.startswith(b"--"):
            return
        head = await reader.until(b"\r\n\r\n", _LARGEST_HEAD)
        content = reader.pieces(delimiter)
        yield _media_type(head), content
        async for _ in content:
            pass


def _media_type(head: bytes) -> str:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.decode("latin-1").partition(";")[0].strip().lower()
    return ""


class Parts:
    """Writes a body of several parts (RFC 2387)."""

    def __init__(self, part_type: str) -> None:
        self._part_type = part_type
        self._boundary = secrets.token_hex(16)

    @property
    def media_type(self) -> str:
        """Return the media type of the whole."""
        return f'multipart/related; type="{self._part_type}"; boundary={self._boundary}'

    def head(self, media_type: str, location: str = "") -> bytes:
        """Return what stands before a part."""
        lines = [f"--{self._boundary}", f"Content-Type: {media_type}"] + ([f"Content-Location: {location}"] if location else [])
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def end(self) -> bytes:
        """Return what stands after the last part."""
        return f"--{self._boundary}--\r\n".encode()

    def part(self, media_type: str, content: bytes) -> bytes:
        """Return a whole part."""
        return self.head(media_type) + content + b"\r\n"
