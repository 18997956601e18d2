"""DICOM files (PS3.10) made of a dataset's bytes, and a few attributes read from its beginning, without decoding it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

IMPLEMENTATION_UID = "2.25.130318446474386287214943016303447523457"
IMPLEMENTATION_NAME = "DICOMWEB_SITE"

# Transfer syntaxes of datasets whose pixels aren't encapsulated (PS3.5 annex A).
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
BEGINNING_BYTES = 16384
"""In which an instance's UIDs are looked for before the whole of it is: they are among its first attributes."""

LARGEST_INFLATED = 256 << 20
"""Bytes that a deflated dataset may become: it is read as a whole, twice, and a few bytes inflate to a thousand times as many."""
# Attributes of 8 bytes each take 0.4 s of a processor per megabyte, and a thousandth of that to send.
_INFLATED_BEGINNING = 1 << 20

LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Explicit VRs whose length has four bytes, after two that are reserved (PS3.5 7.1.2)."""

_UNDEFINED = 0xFFFFFFFF
# Bytes before a dataset, which are read as a whole: an element of eight takes fifty times as much memory.
_LARGEST_META = 1 << 20


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of directories, and files themselves, in the order of their names."""
    for path in paths:
        yield from sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]


def file_head(sop_class: str, instance: str, syntax: str) -> bytes:
    """Return what stands before a dataset in its file: preamble, prefix and File Meta Information (PS3.10 7.1)."""
    meta = (
        struct.pack("<HH2sHI2s", 2, 0x0001, b"OB", 0, 2, b"\0\1")
        + _element(0x0002, b"UI", sop_class)
        + _element(0x0003, b"UI", instance)
        + _element(0x0010, b"UI", syntax)
        + _element(0x0012, b"UI", IMPLEMENTATION_UID)
        + _element(0x0013, b"SH", IMPLEMENTATION_NAME)
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0x0000, b"UL", 4, len(meta)) + meta


def _element(number: int, vr: bytes, value: str) -> bytes:
    content = even(value, b"\0" if vr == b"UI" else b" ")
    return struct.pack("<HH2sH", 2, number, vr, len(content)) + content


def read_syntax(file: BinaryIO) -> str:
    """Return the transfer syntax of a file that stands at its beginning, and leave it where the dataset begins.

    Raises what pydicom raises where it is no DICOM file, ValueError where its File Meta Information is larger than 1 MB, and
    AttributeError where it doesn't say its transfer syntax.
    """

    def is_behind(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag.group == 2 and file.tell() + length > _LARGEST_META:
            raise ValueError(f"its File Meta Information is larger than {_LARGEST_META >> 20} MB")
        return tag.group != 2

    read_preamble(file, force=False)
    return str(read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=is_behind).TransferSyntaxUID)


def refuse_bomb(file: BinaryIO) -> None:
    """Raise ValueError where a deflated dataset (PS3.5 A.5), which begins where the file is, would fill the memory."""
    begin, size = file.tell(), 0
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflating.eof and (left := file.read(1 << 20)):
        while left and not inflating.eof:
            size += len(inflating.decompress(left, 1 << 20))
            left = inflating.unconsumed_tail
            if size > LARGEST_INFLATED:
                raise ValueError(f"it inflates to more than {LARGEST_INFLATED >> 20} MB")
    file.seek(begin)


def even(value: str, padding: bytes) -> bytes:
    """Return a text as an element has it: of even length (PS3.5 6.2)."""
    content = value.encode("ascii", "replace")
    return content + padding if len(content) % 2 else content


def encode(dataset: Dataset, syntax: str, file: BinaryIO) -> None:
    """Write a dataset, whose pixels are in that transfer syntax already; raise what pydicom raises where it can't."""
    target = DicomIO(file)
    target.is_implicit_VR, target.is_little_endian = UID(syntax).is_implicit_VR, UID(syntax).is_little_endian
    write_dataset(target, dataset)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """Return what `encode` writes, for an identifier."""
    target = BytesIO()
    encode(dataset, syntax, target)
    return target.getvalue()


def decoded(content: bytes, syntax: str) -> Dataset:
    """Return an identifier as a dataset; raise ValueError where it can't be read."""
    try:
        return read_dataset(BytesIO(content), syntax == IMPLICIT, True)
    except Exception as error:
        raise ValueError(str(error)) from None


def read_texts(content: bytes, syntax: str, tags: Collection[int]) -> dict[int, str] | None:
    """Return the values of text attributes in the beginning of a dataset, empty ones for those that it lacks.

    None where it ends before the last of `tags`, or has something on the way that only `read_texts_slowly` can read.
    """
    if syntax in (DEFLATED, BIG_ENDIAN):
        return None
    found = dict.fromkeys(tags, "")
    last = max(tags)
    is_explicit = syntax != IMPLICIT
    at, end = 0, len(content)
    while at + 12 <= end:
        group, number = struct.unpack_from("<HH", content, at)
        tag = group << 16 | number
        if tag > last:
            return found
        if is_explicit:
            vr = content[at + 4 : at + 6]
            if not (vr.isalpha() and vr.isupper()):
                # Implicit VR under a wrong name, for one.
                return None
            if vr in LONG_VRS:
                length, start = struct.unpack_from("<I", content, at + 8)[0], at + 12
            else:
                length, start = struct.unpack_from("<H", content, at + 6)[0], at + 8
        else:
            length, start = struct.unpack_from("<I", content, at + 4)[0], at + 8
        at = start + length
        if length == _UNDEFINED or at > end:
            return None
        if tag in found:
            text = _plain(content[start:at])
            if text is None:
                return None
            found[tag] = text
    return None


def read_texts_of(file: BinaryIO, syntax: str, tags: Collection[int]) -> dict[int, str]:
    """Return the same of the dataset that begins where `file` is, by its first bytes where they tell; raise as the slow one."""
    start = file.tell()
    found = read_texts(file.read(BEGINNING_BYTES), syntax, tags)
    if found is None:
        file.seek(start)
        found = read_texts_slowly(file, syntax, tags)
    return found


def _plain(value: bytes) -> str | None:
    """Return a single value of plain ASCII: what else there is depends on character sets and on the VR."""
    if not value.isascii() or b"\x1b" in value or b"\\" in value:
        return None
    return value.decode().rstrip("\0 ")


def read_texts_slowly(file: BinaryIO, syntax: str, tags: Collection[int]) -> dict[int, str]:
    """Return the same of the dataset that begins where `file` is, whatever is in it; raise what pydicom raises where it can't."""
    kind = UID(syntax)
    # A deflated dataset (PS3.5 A.5) is explicit little endian inside. What it becomes beyond its beginning is nobody's here.
    stream = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _INFLATED_BEGINNING)) if kind.is_deflated else file
    last = max(tags)
    dataset = read_dataset(
        stream,
        kind.is_implicit_VR,
        kind.is_little_endian,
        stop_when=lambda tag, vr, length: tag > last,
        specific_tags=list(tags),
    )
    return {tag: _text(dataset[tag].value) if tag in dataset else "" for tag in tags}


def _text(value: Any) -> str:
    """Return an attribute's values as one text."""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
