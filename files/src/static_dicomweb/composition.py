"""DICOM files in pieces, so that no byte is on the disk twice: what nginx puts together again, by server side includes.

A composition is a text with `<!--# include virtual="NAME" -->` for each piece that is a file beside it. Whatever else is in it is
without `<`: what comes from a DICOM file can't be taken for an include.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

BOUNDARY = b'<!--# echo var="request_id" encoding="none" -->'
"""What nginx makes for each answer."""
_INCLUDE = re.compile(rb'<!--# include virtual="([^"]+)" -->')


def include(name: str) -> bytes:
    """Return what stands for a file."""
    return f'<!--# include virtual="{name}" -->'.encode()


def parts(contents: Iterable[tuple[str, str]]) -> bytes:
    """Return the composition of a body of parts, media types and names, whose boundary is made as it is sent (PS3.18 8.6.1)."""
    made = b"".join(
        b"--" + BOUNDARY + f"\r\nContent-Type: {kind}\r\n\r\n".encode() + include(name) + b"\r\n" for kind, name in contents
    )
    return made + b"--" + BOUNDARY + b"--\r\n"


def is_plain(content: bytes) -> bool:
    """Return whether bytes may stand in a composition as they are."""
    return b"<" not in content


def composed(composition: Path, directory: Path) -> Iterator[bytes]:
    """Yield what a composition stands for; `directory` has its files. Raises OSError where one of them can't be read."""
    for number, piece in enumerate(_INCLUDE.split(composition.read_bytes())):
        if number % 2:
            yield (directory / piece.decode()).read_bytes()
        elif piece:
            yield piece


def is_composed_of(content: bytes, pieces: Iterable[bytes]) -> bool:
    """Return whether the pieces, one after the other, are these bytes."""
    at = 0
    for piece in pieces:
        if not content.startswith(piece, at):
            return False
        at += len(piece)
    return at == len(content)
