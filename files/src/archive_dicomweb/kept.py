"""Metadata, and lists of instances, that were made, kept compressed for whoever asks again.

An entry's name says of which files it was made, under which address and by which program, so that none is ever wrong: after a
change another one is asked for, and what isn't asked for any more is what goes when space is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import dicomweb
import pydicom

# Of zlib: 5 takes half as long again as 1, and makes two thirds of the bytes.
_LEVEL = 5
_GZIP = 16 + zlib.MAX_WBITS
# Parts of all: what is free after room was made; what is kept free, for what others write meanwhile; what a process writes until
# it looks again, so that an entry costs no look at all others. 64 processes together write no more than is kept free.
_FREED, _FREE, _UNSEEN = 1 / 10, 1 / 16, 1 / 1024
# An entry takes a block of the disk at least.
_BLOCK = 4096


def signature_of(uuids: Iterable[str]) -> str:
    """Return what names these files, in this order; the index has the same by SQL."""
    return hashlib.sha256(",".join(uuids).encode()).hexdigest()


class Kept:
    """Entries in a directory that several processes share, of at most so many bytes."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        """With 0 bytes, nothing is kept."""
        self._directory = directory
        self._most = most_bytes
        self._program = _program()
        self._written = 0

    def name(self, signature: str, base: str) -> str:
        """Return the name of the entry for files that have this signature, whose addresses are below `base`."""
        return hashlib.sha256(f"{self._program} {signature} {base}".encode()).hexdigest()

    def find(self, name: str) -> BinaryIO | None:
        """Return an entry, compressed by gzip; None where there is none. Whatever is removed meanwhile, it can be read."""
        if not self._most:
            return None
        try:
            file = (self._directory / name).open("rb")
        except OSError:
            return None
        # The last one that was used is the last one to go.
        with contextlib.suppress(OSError):
            os.utime(file.fileno())
        return file

    def new(self, name: str) -> Entry | None:
        """Return an entry to write; None where the disk takes none, or nothing is kept."""
        if not self._most:
            return None
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Entry(self, self._directory / name)
        except OSError:
            return None

    def keep(self, name: str, content: bytes) -> None:
        """Keep what was made."""
        entry = self.new(name)
        if entry:
            try:
                entry.add(content)
                entry.keep()
            finally:
                entry.close()

    def make_room(self, written: int) -> None:
        """Remove what wasn't used for longest, where there is too much after so many bytes were written."""
        self._written += max(written, _BLOCK)
        if self._written < self._most * _UNSEEN:
            return
        self._written = 0
        found = []
        for entry in os.scandir(self._directory):
            with contextlib.suppress(OSError):
                state = entry.stat()
                found.append((state.st_mtime, max(state.st_size, _BLOCK), entry.path))
        total = sum(size for _, size, _ in found)
        if total <= self._most * (1 - _FREE):
            return
        for _, size, path in sorted(found):
            if total <= self._most * (1 - _FREED):
                return
            Path(path).unlink(missing_ok=True)
            total -= size


class Entry:
    """An entry that is being written. Without `keep`, nothing of it stays; an error of the disk is none of who writes."""

    def __init__(self, kept: Kept, target: Path) -> None:
        self._kept = kept
        self._target = target
        self._path = target.with_name(f"new-{secrets.token_hex(8)}")
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._file = self._path.open("xb")

    def add(self, piece: bytes) -> bytes:
        """Write a piece, and return what it is compressed."""
        return self._write(self._compressor.compress(piece))

    def keep(self) -> bytes:
        """End it, and have it found; return the end of what is compressed."""
        end = self._write(self._compressor.flush())
        with contextlib.suppress(OSError):
            size = self._file.tell()
            self._file.close()
            self._path.rename(self._target)
            self._kept.make_room(size)
        return end

    def end(self) -> bytes:
        """End it, and have nobody find it; return the end of what is compressed."""
        return self._compressor.flush()

    def close(self) -> None:
        """Remove what wasn't kept."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, content: bytes) -> bytes:
        try:
            self._file.write(content)
        except OSError:
            # It is sent all the same; under this name, nobody finds it.
            self._path.unlink(missing_ok=True)
        return content


def decompressed(file: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """Yield what an entry has, at most so many bytes at a time."""
    decompressor = zlib.decompressobj(_GZIP)
    while piece := file.read(piece_bytes):
        while piece:
            if made := decompressor.decompress(piece, piece_bytes):
                yield made
            piece = decompressor.unconsumed_tail


def _program() -> str:
    """Return what names the version of what makes metadata."""
    sums = hashlib.sha256(pydicom.__version__.encode())
    for path in sorted((*Path(str(dicomweb.__file__)).parent.glob("*.py"), *Path(__file__).parent.glob("*.py"))):
        sums.update(path.read_bytes())
    return sums.hexdigest()
