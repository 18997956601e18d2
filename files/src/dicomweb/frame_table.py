"""Where the frames of an instance are in its file (PS3.5 8.1.1, A.4), so that one of them costs its own bytes and no more."""

from __future__ import annotations

import os
import struct
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from dimse.part10 import DEFLATED, LONG_VRS, read_syntax
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from dicomweb.errors import LostError, RequestError
from dicomweb.syntaxes import MPEG, NATIVE, RLE

PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
"""Attributes that have pixels, by their tags; an instance has one of them."""

OFFSET_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
"""Attributes that say where the frames of an instance begin, beside the table within its pixels (PS3.3 C.7.6.3.1.8)."""

_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_ITEM, _SEQUENCE_END, _UNDEFINED = 0xFFFEE000, 0xFFFEE0DD, 0xFFFFFFFF
_END_OF_FRAGMENTS = b"\xfe\xff\xdd\xe0"
_HEAD = struct.Struct("<HHI")
# Frames are read by their number: what a stranger's bytes say of them takes at most 8 MB a table, and 16 MB of those that are kept.
_MOST_FRAGMENTS, _MOST_KEPT = 1 << 20, 2 << 20
# Of a JPEG of any kind, as its last two bytes, before which a pad may stand.
_END_OF_IMAGE, _PADDED_END = b"\xff\xd9", 10
_LARGEST_READ = 1 << 20


class Content(Protocol):
    """A file's bytes."""

    size: int

    def read(self, at: int, count: int) -> bytes:
        """Return so many bytes, fewer where it ends before."""


class Memory:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, at: int, count: int) -> bytes:
        """Return so many bytes, fewer where it ends before."""
        return self._content[at : at + count]


class _OpenFile:
    """A file that is open: whatever becomes of its name, these are its bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, at: int, count: int) -> bytes:
        """Return so many bytes, fewer where it ends before."""
        return os.pread(self._descriptor, max(min(count, self.size - at), 0), at)


@dataclass(frozen=True)
class FrameTable:
    """The places of frames: of native ones, of `bits` each, one after the other; else of those that begin at `starts`."""

    syntax: str
    count: int
    """How many frames there are by what the instance says; fewer may be there."""
    begin: int
    """Where the value of the pixels begins, and with it the offset table of encapsulated ones."""
    end: int
    bits: int = 0
    starts: array[int] = field(default_factory=lambda: array("Q"))
    keyword: str = "PixelData"

    @property
    def there(self) -> int:
        """Return how many frames are there."""
        found = (self.end - self.begin) * 8 // self.bits if self.bits else len(self.starts)
        return min(found, self.count)

    def checked(self, number: int) -> int:
        """Return the index of a frame by its number, from one on; raise RequestError (404, 502) where there is none."""
        if not 1 <= number <= self.count:
            raise RequestError(404, f"The instance has {self.count} frames, and no frame {number}.")
        if number > self.there:
            raise RequestError(502, f"The instance's pixels end before frame {number} of {self.count}.")
        return number - 1

    def frame(self, content: Content, number: int) -> bytes:
        """Return a frame as it is stored, native ones of single bits with those of no other; raise RequestError (404, 502)."""
        index = self.checked(number)
        if self.bits:
            return self._native(content, index)
        stop = self.starts[index + 1] if index + 1 < len(self.starts) else self.end
        pieces, at = [], self.starts[index]
        while at < stop:
            tag, length = _item(content, at)
            if tag != _ITEM or at + 8 + length > stop:
                raise RequestError(502, f"The frames can't be told apart: no fragment of frame {number} begins at byte {at}.")
            pieces.append(content.read(at + 8, length))
            at += 8 + length
        return b"".join(pieces)

    def _native(self, content: Content, index: int) -> bytes:
        first, last = index * self.bits, (index + 1) * self.bits
        found = content.read(self.begin + first // 8, -(-last // 8) - first // 8)
        if first % 8 == 0 and last % 8 == 0:
            return found
        # Frames of one bit a pixel follow each other without padding (PS3.5 8.1.1).
        bits = np.unpackbits(np.frombuffer(found, np.uint8), bitorder="little")[first % 8 :][: self.bits]
        return np.packbits(bits, bitorder="little").tobytes()


class OpenFrames:
    """The frames of a file, which is open until this is closed."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises RequestError: 404 where it has no pixels, 502 where it can't be read; UntoldError where its frames have no places.
        """
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise LostError from None
        except OSError as error:
            raise _unreadable(error) from None
        try:
            self._content = _OpenFile(self._file.fileno())
            self.table = self._kept_table()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _kept_table(self) -> FrameTable:
        state = os.fstat(self._file.fileno())
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        table = _kept.find(key)
        if table is None:
            dataset = self.head()
            try:
                table = _table(dataset, self._content, self._file.tell())
            except (RequestError, UntoldError):
                raise
            except Exception as error:
                raise _unreadable(error) from None
            _kept.keep(key, table)
        return table

    def head(self) -> Dataset:
        """Return what stands before the pixels; raise RequestError (502)."""
        try:
            self._file.seek(0)
            # Which would be inflated as a whole.
            if read_syntax(self._file) == DEFLATED:
                raise UntoldError
            self._file.seek(0)
            return dcmread(self._file, stop_before_pixels=True, defer_size=_LARGEST_READ)
        except (InvalidDicomError, AttributeError):
            raise UntoldError from None
        except UntoldError:
            raise
        except Exception as error:
            raise _unreadable(error) from None

    def frame(self, number: int) -> bytes:
        """Return a frame as it is stored; raise RequestError (404, 502)."""
        return self.table.frame(self._content, number)

    @property
    def value_bytes(self) -> int:
        """Return how many bytes the pixels' value has, with the offset table and the items of encapsulated ones."""
        return self.table.end - self.table.begin

    def piece(self, at: int, count: int) -> bytes:
        """Return so many bytes of the pixels' value, fewer at its end."""
        return self._content.read(self.table.begin + at, min(count, self.value_bytes - at))

    def alone(self, number: int, dataset: Dataset) -> Dataset:
        """Return the head of this instance with one frame, as it is stored; raise RequestError (404, 502)."""
        frame = self.frame(number)
        try:
            return self._alone(dataset, frame, number - 1)
        except OSError:
            # What is large is read by the file's name, which may be another's by now.
            raise LostError from None
        except Exception as error:
            raise _unreadable(error) from None

    def _alone(self, dataset: Dataset, frame: bytes, index: int) -> Dataset:
        if self.table.bits:
            setattr(dataset, self.table.keyword, frame + b"\0" * (len(frame) % 2))
        else:
            dataset.PixelData = encapsulate([frame], has_bot=False)
            dataset["PixelData"].is_undefined_length = True
        for keyword in OFFSET_TABLES:
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.NumberOfFrames = 1
        groups: Sequence[Dataset] = dataset.get(_PER_FRAME) or []
        if index < len(groups):
            setattr(dataset, _PER_FRAME, Items([groups[index]]))
        return dataset


def _unreadable(error: Exception) -> RequestError:
    return RequestError(502, f"The instance can't be read: {str(error)[:200] or type(error).__name__}.")


class UntoldError(Exception):
    """The frames of this file have no places of their own: they are deflated, or in big endian, or what it is isn't said."""


def encapsulated(content: Content, at: int, syntax: str, count: int, extended: bytes = b"", stop: int | None = None) -> FrameTable:
    """Return the table of encapsulated pixels whose value begins at a byte, and ends at `stop` where it has no delimiter.

    `extended` is the Extended Offset Table (PS3.3 C.7.6.3). A table that leads to no items is none, and a frame that may be cut off
    isn't there.
    """
    tag, length = _item(content, at)
    base = at + 8 + length
    if tag != _ITEM or base > content.size:
        raise RequestError(502, "The frames can't be told apart: the pixels don't begin with an item for their offsets.")
    starts: array[int] = array("Q")
    if syntax not in MPEG:
        told, width = (extended, 8) if extended else (content.read(at + 8, min(length, 4 * _MOST_FRAGMENTS + 4)), 4)
        starts = _named(content, base, np.frombuffer(told[: len(told) // width * width], f"<u{width}").astype(np.uint64))
    if len(starts) >= count:
        _, end = _fragments(content, starts[-1])
        return FrameTable(syntax, count, at, end if _is_ended(content, end, stop) else starts.pop(), starts=starts)
    fragments, end = _fragments(content, base)
    is_ended = _is_ended(content, end, stop)
    if starts and len(fragments) != count:
        return FrameTable(syntax, count, at, end if is_ended else starts.pop(), starts=starts)
    starts, end = _begun(content, fragments, end, syntax, count, is_ended=is_ended)
    return FrameTable(syntax, count, at, end, starts=starts)


def _named(content: Content, base: int, offsets: np.ndarray[Any, np.dtype[np.uint64]]) -> array[int]:
    """Return where frames begin by a table; nothing where it leads to no items."""
    starts: array[int] = array("Q")
    if not 0 < len(offsets) <= _MOST_FRAGMENTS or offsets[0] != 0 or offsets.max() >= content.size:
        return starts
    if not np.all(offsets[1:] > offsets[:-1]) or any(_item(content, base + offset)[0] != _ITEM for offset in offsets.tolist()):
        return starts
    starts.frombytes((offsets + np.uint64(base)).tobytes())
    return starts


def _fragments(content: Content, at: int) -> tuple[array[int], int]:
    """Return where the whole fragments begin from one on, and where the last of them ends; raise RequestError (502)."""
    found: array[int] = array("Q")
    while True:
        tag, length = _item(content, at)
        if tag != _ITEM or at + 8 + length > content.size:
            return found, at
        if len(found) == _MOST_FRAGMENTS:
            raise RequestError(502, f"The pixels have more than {_MOST_FRAGMENTS} fragments.")
        found.append(at)
        at += 8 + length


def _is_ended(content: Content, end: int, stop: int | None) -> bool:
    """Return whether no fragment follows those that end at a byte."""
    return end == stop or content.read(end, 4) == _END_OF_FRAGMENTS


def _begun(content: Content, fragments: array[int], end: int, syntax: str, count: int, *, is_ended: bool) -> tuple[array[int], int]:
    """Return the fragments with which frames begin, where no table tells, and where the last of these frames ends."""
    if syntax in MPEG or count == 1 or len(fragments) == 1:
        # A video's frames are one stream (PS3.5 8.2.5).
        return fragments[: int(is_ended)], end
    if len(fragments) == count or (syntax == RLE and len(fragments) < count):
        return fragments, end
    begun: array[int] = array("Q")
    is_begin = True
    for at, after in zip(fragments, [*fragments[1:], end], strict=True):
        if is_begin:
            begun.append(at)
        tail = min(_PADDED_END, after - at - 8)
        is_begin = _END_OF_IMAGE in content.read(after - tail, tail)
    if len(begun) < 2 and fragments:
        raise RequestError(
            502, f"The frames can't be told apart: {len(fragments)} fragments have {count}, and no table of offsets."
        )
    if not (is_begin or is_ended):
        end = begun.pop()
    return begun, end


def _item(content: Content, at: int) -> tuple[int, int]:
    """Return the tag and the length of an item, or what marks the end where there is none."""
    head = content.read(at, 8)
    if len(head) < 8:
        return _SEQUENCE_END, 0
    group, number, length = _HEAD.unpack(head)
    return group << 16 | number, length


def _table(dataset: Dataset, content: Content, at: int) -> FrameTable:
    """Return the table of a dataset's frames, whose pixels begin with their tag at a byte."""
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax or not syntax.is_little_endian:
        raise UntoldError
    tag, _ = _item(content, at)
    if tag not in PIXEL_KEYWORDS:
        raise RequestError(404, "The instance has no pixels.")
    # No length of an even number of bytes looks like a VR.
    is_explicit = content.read(at + 4, 2) in LONG_VRS
    begin = at + (12 if is_explicit else 8)
    length = int.from_bytes(content.read(begin - 4, 4), "little")
    count = frame_count(dataset)
    if syntax not in NATIVE:
        stop = None if length == _UNDEFINED else begin + length
        return encapsulated(content, begin, syntax, count, dataset.get("ExtendedOffsetTable") or b"", stop)
    bits = frame_bits(dataset)
    if length in (0, _UNDEFINED) or not bits:
        raise UntoldError
    return FrameTable(syntax, count, begin, max(min(begin + length, content.size), begin), bits, keyword=PIXEL_KEYWORDS[tag])


def frame_count(dataset: Dataset) -> int:
    """Return how many frames there are."""
    try:
        return max(int(dataset.get("NumberOfFrames") or 1), 1)
    except Exception:
        # Whatever somebody's equipment has written: pydicom raises errors of many kinds.
        return 1


def frame_bits(dataset: Dataset) -> int:
    """Return the bits of a native frame (PS3.5 8.1.1, 8.2); 0 where the dataset doesn't say its size."""
    try:
        bits = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * int(dataset.get("SamplesPerPixel") or 1)
        bits *= int(dataset.get("BitsAllocated") or 8)
        return bits * 2 // 3 if dataset.get("PhotometricInterpretation") == "YBR_FULL_422" else bits
    except Exception:
        return 0


class _Kept:
    """The tables that were used last."""

    def __init__(self, most: int) -> None:
        """Places of frames are kept, at most so many."""
        self._most = most
        self._places = 0
        self._tables: OrderedDict[tuple[int, ...], FrameTable] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[int, ...]) -> FrameTable | None:
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
            return self._tables.get(key)

    def keep(self, key: tuple[int, ...], table: FrameTable) -> None:
        with self._lock:
            if key not in self._tables:
                self._tables[key] = table
                self._places += _places(table)
            while self._places > self._most:
                _, oldest = self._tables.popitem(last=False)
                self._places -= _places(oldest)


def _places(table: FrameTable) -> int:
    # What a table takes by itself, in places of 8 bytes.
    return len(table.starts) + 64


_kept = _Kept(_MOST_KEPT)
