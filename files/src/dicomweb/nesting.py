"""How deep the sequences of a dataset are nested (PS3.5 7.5), found without decoding it or keeping it in memory.

What parses by recursion ends where its stack does: DCMTK, and with it the process, at some fifty levels in a thread of Orthanc's
HTTP, pydicom at 250. Reports have some ten.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from dimse.part10 import BIG_ENDIAN, DEFLATED, IMPLICIT, LARGEST_INFLATED, LONG_VRS
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomweb.attributes import VRS

DEEPEST = 24
"""Levels of sequences that are taken."""

_VRS = frozenset(vr.encode() for vr in VRS)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ITEM_BYTES = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"
_UNDEFINED = 0xFFFFFFFF
_PIECE_BYTES = 1 << 18
# Of a deflated dataset, where a stranger sends a thousandth of them.
_MOST_INFLATED_ELEMENTS = 1_000_000


class TooDeepError(ValueError):
    """Sequences are nested deeper than is taken."""

    def __init__(self) -> None:
        super().__init__(f"its sequences are nested deeper than {DEEPEST} levels")


class _OddError(Exception):
    """The dataset isn't written as PS3.5 has it, as far as is looked at here."""


def refuse_deep(file: BinaryIO, syntax: str) -> None:
    """Raise ValueError where a file's dataset, which begins where the file is, is nested deeper than DEEPEST sequences.

    Also where it is deflated and becomes more than 256 MB or a million elements, or can't be read while it might be nested so.
    """
    try:
        if syntax == DEFLATED:
            _Walk(io.BufferedReader(_Inflating(file)), False, "<", _MOST_INFLATED_ELEMENTS).walk()
        else:
            _Walk(file, syntax == IMPLICIT, ">" if syntax == BIG_ENDIAN else "<", None).walk()
    except _OddError:
        if syntax == DEFLATED or _has_many_items(file):
            _refuse_by_pydicom(file)
    except zlib.error as error:
        raise ValueError(f"it can't be inflated: {error}") from None


class _Walk:
    """Follows a dataset's elements to its end, whatever they are."""

    def __init__(self, file: BinaryIO | io.BufferedReader, is_implicit: bool, order: str, most: int | None) -> None:
        self._file = file
        self._is_implicit = is_implicit
        self._most = most
        self._head = struct.Struct(f"{order}HHI").unpack
        self._short = struct.Struct(f"{order}HH2sH").unpack
        self._long = struct.Struct(f"{order}I").unpack
        self._at = 0

    def walk(self) -> None:
        """Raise TooDeepError where it is nested too deep, _OddError where it can't be followed."""
        try:
            self._elements(None, self._is_implicit, 0)
        except EOFError:
            # What isn't there isn't nested.
            return

    def _read(self, count: int) -> bytes:
        content = self._file.read(count)
        if len(content) < count:
            raise EOFError
        self._at += count
        return content

    def _skip(self, count: int) -> None:
        if self._most is None:
            self._file.seek(count, io.SEEK_CUR)
            self._at += count
            return
        while count:
            count -= len(self._read(min(count, _PIECE_BYTES)))

    def _elements(self, end: int | None, is_implicit: bool, depth: int) -> None:
        while end is None or self._at < end:
            if self._most is not None:
                self._count()
            head = self._read(8)
            vr = b"UN"
            group, number, length = self._head(head)
            if group == 0xFFFE:
                if (group << 16 | number) == _ITEM_END and end is None and depth:
                    return
                raise _OddError
            if not is_implicit:
                _, _, vr, length = self._short(head)
                if vr not in _VRS:
                    raise _OddError
                if vr in LONG_VRS:
                    (length,) = self._long(self._read(4))
            if length == _UNDEFINED:
                self._undefined(vr, is_implicit, depth)
            elif vr == b"SQ":
                self._items(self._at + length, False, depth + 1)
            elif vr == b"UN" and length >= 8:
                self._maybe_items(length, depth)
            else:
                self._skip(length)

    def _count(self) -> None:
        self._most = (self._most or 0) - 1
        if self._most < 0:
            raise ValueError(f"it inflates to more than {_MOST_INFLATED_ELEMENTS:,} elements")

    def _undefined(self, vr: bytes, is_implicit: bool, depth: int) -> None:
        if vr in (b"OB", b"OW"):
            self._fragments()
        elif vr == b"SQ" or vr == b"UN":
            # What is in an unknown one is implicit (PS3.5 6.2.2).
            self._items(None, is_implicit or vr == b"UN", depth + 1)
        else:
            raise _OddError

    def _maybe_items(self, length: int, depth: int) -> None:
        """Look into a value of which its VR doesn't tell that it is a sequence."""
        end = self._at + length
        first = self._head(self._read(8))
        if first[0] << 16 | first[1] == _ITEM:
            self._items(end, True, depth + 1, first)
        else:
            self._skip(length - 8)

    def _items(self, end: int | None, is_implicit: bool, depth: int, first: tuple[int, int, int] | None = None) -> None:
        if depth > DEEPEST:
            raise TooDeepError
        while first or end is None or self._at < end:
            group, number, length = first or self._head(self._read(8))
            first = None
            tag = group << 16 | number
            if tag == _SEQUENCE_END and end is None:
                return
            if tag != _ITEM:
                raise _OddError
            self._elements(None if length == _UNDEFINED else self._at + length, is_implicit, depth)

    def _fragments(self) -> None:
        while True:
            group, number, length = self._head(self._read(8))
            tag = group << 16 | number
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise _OddError
            self._skip(length)


class _Inflating(io.RawIOBase):
    """What a deflated dataset (PS3.5 A.5) is, as far as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        self._size = 0

    def readable(self) -> bool:
        """Return whether it can be read."""
        return True

    def readinto(self, target: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `target` with what follows; raise ValueError where that is too much, zlib.error where it can't be inflated."""
        while not self._inflating.eof:
            given = self._inflating.unconsumed_tail or self._file.read(_PIECE_BYTES)
            content = self._inflating.decompress(given, len(target))
            if content:
                self._size += len(content)
                if self._size > LARGEST_INFLATED:
                    raise ValueError(f"it inflates to more than {LARGEST_INFLATED >> 20} MB")
                target[: len(content)] = content
                return len(content)
            if not given:
                break
        return 0


def _has_many_items(file: BinaryIO) -> bool:
    """Return whether a file has so many items that they might be within each other."""
    count, before = 0, b""
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        count += sum((before + piece).count(item) for item in _ITEM_BYTES)
        before = piece[-3:]
    return count > DEEPEST


def _refuse_by_pydicom(file: BinaryIO) -> None:
    """Raise ValueError where sequences are nested too deep as pydicom reads them, or where it can't."""
    file.seek(0)
    try:
        dataset = dcmread(file, stop_before_pixels=True)
        too_deep = _is_deeper(dataset, DEEPEST)
    except RecursionError:
        too_deep = True
    except Exception as error:
        raise ValueError(f"it can't be read: {str(error)[:100]}") from None
    if too_deep:
        raise TooDeepError


def _is_deeper(dataset: Dataset, levels: int) -> bool:
    return levels < 0 or any(_is_deeper(item, levels - 1) for each in dataset if each.VR == "SQ" for item in each.value)
