"""What ends who parses an instance by recursion, found without decoding the instance or keeping it in memory.

Sequences within each other (PS3.5 7.5) are followed as far as a stack reaches: DCMTK ends, and with it the process, at some fifty
levels in a thread of Orthanc's HTTP, pydicom at 250. Reports have some ten. In File Meta Information a single one ends DCMTK.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import BinaryIO

from dimse.part10 import BIG_ENDIAN, DEFLATED, IMPLICIT, LARGEST_INFLATED, LONG_VRS

from dicomweb.attributes import VRS

DEEPEST = 24
"""Levels of sequences that are taken."""

_VRS = frozenset(vr.encode() for vr in VRS)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ITEM_BYTES = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"
_UNDEFINED = 0xFFFFFFFF
_PIECE_BYTES, _WINDOW_BYTES = 1 << 18, 1 << 14
# Of an element or an item: with a length of two or four bytes beside its VR, or without a VR, and with one of four behind it.
_SHORTEST_HEAD, _LONGEST_HEAD = 8, 12
# Of a deflated dataset, where a stranger sends a thousandth of them.
_MOST_INFLATED_ELEMENTS = 1_000_000


def refuse_sequences_before(file: BinaryIO, start: int) -> None:
    """Raise ValueError where File Meta Information (PS3.10 7.1), which ends at byte `start`, has what may be a sequence."""
    file.seek(0)
    head = file.read(start)
    at = head.find(b"DICM", 128, 132) + 4
    while at + _SHORTEST_HEAD <= start:
        _, number, vr, length = struct.unpack_from("<HH2sH", head, at)
        at += _SHORTEST_HEAD
        if vr in LONG_VRS:
            (length,) = struct.unpack_from("<I", head.ljust(at + 4, b"\0"), at)
            at += 4
        if vr not in _VRS or vr == b"SQ" or length == _UNDEFINED:
            raise ValueError(f"its File Meta Information has (0002,{number:04X}) with a VR or a length that it can't have")
        at += length


class TooDeepError(ValueError):
    """Sequences are nested deeper than is taken."""

    def __init__(self) -> None:
        super().__init__(f"its sequences are nested deeper than {DEEPEST} levels")


class _OddError(Exception):
    """The dataset isn't written as PS3.5 has it, as far as is looked at here."""


def refuse_deep(file: BinaryIO, syntax: str) -> None:
    """Raise ValueError where a file's dataset, which begins where the file is, is nested deeper than DEEPEST sequences.

    Also where it ends within a sequence of undefined length, where it can't be followed and might be nested so, and where it is
    deflated and can't be followed, or becomes more than 256 MB or a million elements.
    """
    if syntax == DEFLATED:
        try:
            _Walk(io.BufferedReader(_Inflating(file)), False, "<", _MOST_INFLATED_ELEMENTS).walk()
        except _OddError:
            raise ValueError("it is deflated, and isn't written as PS3.5 has it") from None
        except zlib.error as error:
            raise ValueError(f"it can't be inflated: {error}") from None
    elif not _is_followed(file, syntax) and _has_many_items(file):
        # Who reads it otherwise than another may find sequences where that one finds none.
        raise ValueError(f"it isn't written as PS3.5 has it, and has more than {DEEPEST} items")


def _is_followed(file: BinaryIO, syntax: str) -> bool:
    """Return whether a dataset that isn't deflated can be followed as its transfer syntax says, and looks so at its beginning."""
    begin = file.tell()
    is_implicit = syntax == IMPLICIT
    if (file.read(6)[4:] not in _VRS) != is_implicit:
        return False
    file.seek(begin)
    try:
        _Walk(file, is_implicit, ">" if syntax == BIG_ENDIAN else "<", None).walk()
    except _OddError:
        return False
    return True


class _Walk:
    """Follows a dataset's elements to its end, whatever they are."""

    def __init__(self, file: BinaryIO | io.BufferedReader, is_implicit: bool, order: str, most: int | None) -> None:
        """`most` elements are followed of what can't be skipped, as of what is inflated."""
        self._file = file
        self._origin = 0 if most else file.tell()
        self._is_implicit = is_implicit
        self._most = most
        self._head = struct.Struct(f"{order}HHI").unpack_from
        self._short = struct.Struct(f"{order}HH2sH").unpack_from
        self._long = struct.Struct(f"{order}I").unpack_from
        self._window, self._start = b"", 0

    def walk(self) -> None:
        """Raise TooDeepError where it is nested too deep, _OddError where it can't be followed."""
        # What isn't there isn't nested.
        with contextlib.suppress(EOFError):
            self._elements(0, None, self._is_implicit, 0)

    def _offset(self, at: int) -> int:
        """Return where a byte is in the window, which has the head of what begins there; raise EOFError."""
        offset = at - self._start
        if offset + _LONGEST_HEAD > len(self._window):
            self._read(at)
            offset = 0
        return offset

    def _read(self, at: int) -> None:
        if self._most is None:
            self._file.seek(self._origin + at)
            self._window = self._file.read(_WINDOW_BYTES)
        else:
            left = at - self._start
            while left >= len(self._window):
                left -= len(self._window)
                self._window = self._file.read(_WINDOW_BYTES)
                if not self._window:
                    raise EOFError
            self._window = self._window[left:] + self._file.read(_WINDOW_BYTES)
        self._start = at
        if len(self._window) < _SHORTEST_HEAD:
            raise EOFError

    def _elements(self, at: int, end: int | None, is_implicit: bool, depth: int) -> int:
        """Follow the elements from a byte on; return where what is behind them begins."""
        while end is None or at < end:
            if self._most is not None:
                self._count()
            offset = self._offset(at)
            vr, behind = b"UN", at + _SHORTEST_HEAD
            if is_implicit:
                group, number, length = self._head(self._window, offset)
            else:
                group, number, vr, length = self._short(self._window, offset)
                if vr in LONG_VRS:
                    length, behind = self._length(offset + _SHORTEST_HEAD), at + _LONGEST_HEAD
                elif vr not in _VRS and group != 0xFFFE:
                    raise _OddError
            if group == 0xFFFE:
                if number == _ITEM_END & 0xFFFF and end is None and depth:
                    return at + _SHORTEST_HEAD
                raise _OddError
            if length == _UNDEFINED:
                at = self._undefined(behind, vr, is_implicit, depth)
                continue
            if vr == b"SQ":
                self._items(behind, behind + length, False, depth + 1)
            elif vr == b"UN" and length >= _SHORTEST_HEAD and self._item(behind)[0] == _ITEM:
                # What its VR doesn't tell is a sequence all the same, the items of which are implicit (PS3.5 6.2.2).
                self._items(behind, behind + length, True, depth + 1)
            at = behind + length
        return _within(at, end)

    def _length(self, offset: int) -> int:
        if offset + 4 > len(self._window):
            raise EOFError
        (length,) = self._long(self._window, offset)
        return int(length)

    def _count(self) -> None:
        self._most = (self._most or 0) - 1
        if self._most < 0:
            raise ValueError(f"it inflates to more than {_MOST_INFLATED_ELEMENTS:,} elements")

    def _item(self, at: int) -> tuple[int, int]:
        offset = self._offset(at)
        group, number, length = self._head(self._window, offset)
        return group << 16 | number, length

    def _undefined(self, at: int, vr: bytes, is_implicit: bool, depth: int) -> int:
        if vr in (b"OB", b"OW"):
            return self._fragments(at)
        if vr in (b"SQ", b"UN"):
            return self._items(at, None, is_implicit or vr == b"UN", depth + 1)
        raise _OddError

    def _items(self, at: int, end: int | None, is_implicit: bool, depth: int) -> int:
        if depth > DEEPEST:
            raise TooDeepError
        try:
            while end is None or at < end:
                tag, length = self._item(at)
                at += _SHORTEST_HEAD
                if tag == _SEQUENCE_END and end is None:
                    break
                if tag != _ITEM:
                    raise _OddError
                at = self._elements(at, None if length == _UNDEFINED else at + length, is_implicit, depth)
        except EOFError:
            # One that says its length is read as far as it goes.
            if end is not None:
                raise
            raise ValueError("it ends within a sequence") from None
        return _within(at, end)

    def _fragments(self, at: int) -> int:
        while True:
            tag, length = self._item(at)
            at += _SHORTEST_HEAD
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or length == _UNDEFINED:
                raise _OddError
            at += length


def _within(at: int, end: int | None) -> int:
    """Return where something ends; raise _OddError where what it is in ends before."""
    if end is not None and at > end:
        raise _OddError
    return at


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
