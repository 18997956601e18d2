"""Bodies of several parts (RFC 2046 5.1, RFC 2387), read and written a part at a time."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from email.message import Message

from dicomweb.errors import RequestError

_LARGEST_HEAD = 16384
# RFC 2046 has 70. Orthanc's STOW-RS client takes two UUIDs with a hyphen, 73.
_LONGEST_BOUNDARY = 256
_PREAMBLE, _PREFIX = 128, b"DICM"


def _boundary(content_type: str) -> bytes | None:
    """Return the boundary that a multipart/related says it has, or None where it says nothing; raise RequestError (400, 415)."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/related":
        raise RequestError(415, f"The Content-Type is {content_type[:80] or 'missing'}: send multipart/related.")
    if boundary is None:
        return None
    if not isinstance(boundary, str) or not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
        raise _no_boundary()
    return boundary.encode()


def _no_boundary() -> RequestError:
    return RequestError(400, f"The Content-Type has no boundary of 1 to {_LONGEST_BOUNDARY} characters of ASCII.")


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

    async def at_least(self, count: int) -> None:
        """Have so many bytes, or all that there are."""
        while len(self.content) < count and not self.is_over:
            await self.more()

    async def line(self) -> bytes:
        """Return a line of a head without its end, and go past it."""
        while b"\n" not in self.content:
            if len(self.content) > _LARGEST_HEAD:
                raise _large_head()
            await self.more()
        line, _, self.content = self.content.partition(b"\n")
        return line

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

    async def rest(self) -> AsyncGenerator[bytes]:
        """Yield all that is left."""
        while not self.is_over or self.content:
            piece, self.content = self.content, b""
            if piece:
                yield piece
            if not self.is_over:
                await self.more()


def _large_head() -> RequestError:
    return RequestError(400, f"The head of a part is longer than {_LARGEST_HEAD} bytes.")


async def read_parts(content_type: str, stream: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, AsyncGenerator[bytes]]]:
    """Yield each part's media type and its content, which is to be read to its end before the next.

    As clients send them: with blanks behind a boundary, as RFC 2046 has it, and with lines that end with LF alone. Where the
    Content-Type doesn't say the boundary, the body's first line does; a body that is a DICOM file (PS3.10 7.1) is one part.
    Raises RequestError (400, 415) where it is no such body, or breaks off.
    """
    boundary = _boundary(content_type)
    reader = _Reader(stream)
    if boundary is None:
        await reader.at_least(_PREAMBLE + len(_PREFIX))
        if reader.content[_PREAMBLE:].startswith(_PREFIX):
            yield "", reader.rest()
            return
        if not reader.content.startswith(b"--"):
            raise _no_boundary()
        boundary = (await reader.line())[2:].strip()
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
            raise _no_boundary()
        reader.content = b"--" + boundary + b"\r\n" + reader.content
    # The first one may stand at the very beginning.
    reader.content = b"\n" + reader.content
    async for _ in reader.pieces(b"\n--" + boundary):
        pass
    end = b""
    while True:
        await reader.at_least(2)
        if reader.content.startswith(b"--"):
            return
        line = await reader.line()
        end = end or (b"\r\n" if line.endswith(b"\r") else b"\n")
        if line.strip():
            raise RequestError(400, "The boundary of the Content-Type has more behind it in the body.")
        media_type = await _media_type(reader)
        content = reader.pieces(end + b"--" + boundary)
        yield media_type, content
        async for _ in content:
            pass


async def _media_type(reader: _Reader) -> str:
    """Return what a part's head says of it, and go past the head."""
    found, count = "", 0
    while line := (await reader.line()).strip():
        count += len(line)
        if count > _LARGEST_HEAD:
            raise _large_head()
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            found = value.decode("latin-1").partition(";")[0].strip().lower()
    return found


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
