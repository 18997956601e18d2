"""Sequences within sequences: as deep as reports have them they are taken, however they are written, and no deeper."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from datasets import PYDICOM_FILES
from dicomweb.nesting import DEEPEST, TooDeepError, refuse_deep, refuse_sequences_before
from dimse.part10 import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, file_head, read_syntax

UNDEFINED = 0xFFFFFFFF
ENDS = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
REST = struct.pack("<HH2sH2s", 0x0040, 0xDB00, b"CS", 2, b"1 ")


def item(content: bytes, length: int | None = None, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(content) if length is None else length) + content


def explicit(content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        content = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item(content))) + item(content)
    return content


def undefined(content: bytes, levels: int) -> bytes:
    begin = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, UNDEFINED) + item(b"", UNDEFINED)
    return begin * levels + content + b"".join(ENDS) * levels


def implicit(content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        content = struct.pack("<HHI", 0x0041, 0x1001, len(item(content))) + item(content)
    return content


def implicit_undefined(content: bytes, levels: int) -> bytes:
    begin = struct.pack("<HHI", 0x0040, 0xA730, UNDEFINED) + item(b"", UNDEFINED)
    return begin * levels + content + b"".join(ENDS) * levels


def unknown(content: bytes, levels: int) -> bytes:
    """A sequence that somebody has sent as UN: what is in it is implicit (PS3.5 6.2.2)."""
    inner = item(implicit_undefined(b"", levels - 1), UNDEFINED) + b"".join(ENDS)
    return struct.pack("<HH2sHI", 0x0041, 0x1001, b"UN", 0, UNDEFINED) + inner + content


def unknown_of_a_length(content: bytes, levels: int) -> bytes:
    inner = item(implicit(b"", levels - 1))
    return struct.pack("<HH2sHI", 0x0041, 0x1001, b"UN", 0, len(inner)) + inner + content


def big(content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        inner = item(content, order=">")
        content = struct.pack(">HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(inner)) + inner
    return content


def deflated(content: bytes, levels: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(explicit(content, levels)) + packer.flush()


def after_pixels(content: bytes, levels: int) -> bytes:
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED) + item(b"") + item(bytes(1000)) + ENDS[1]
    return (
        content + pixels + struct.pack("<HH2sHI", 0xFFFA, 0xFFFA, b"SQ", 0, UNDEFINED) + item(explicit(b"", levels - 1)) + ENDS[1]
    )


def implicit_that_is_told_as_explicit(content: bytes, levels: int) -> bytes:
    del content
    return implicit_undefined(struct.pack("<HHI2s", 0x0040, 0xDB00, 2, b"1 "), levels)


def implicit_after_pixels_that_is_told_as_explicit(content: bytes, levels: int) -> bytes:
    del content
    pixels = struct.pack("<HHIHHHI4s", 0x0028, 0x0100, 2, 16, 0x7FE0, 0x0010, 4, bytes(4))
    return pixels + implicit_undefined(b"", levels)


def explicit_that_is_told_as_implicit(content: bytes, levels: int) -> bytes:
    del content
    return explicit(REST, levels)


WAYS = {
    explicit: EXPLICIT,
    undefined: EXPLICIT,
    implicit: IMPLICIT,
    implicit_undefined: IMPLICIT,
    unknown: EXPLICIT,
    unknown_of_a_length: EXPLICIT,
    big: BIG_ENDIAN,
    deflated: DEFLATED,
    after_pixels: EXPLICIT,
}
# What one reads by its transfer syntax, and another as it looks.
TOLD_WRONGLY = {
    implicit_that_is_told_as_explicit: EXPLICIT,
    implicit_after_pixels_that_is_told_as_explicit: EXPLICIT,
    explicit_that_is_told_as_implicit: IMPLICIT,
}


def file_of(content: bytes, syntax: str) -> BytesIO:
    head = file_head("1.2.840.10008.5.1.4.1.1.88.33", "1.2.3", syntax)
    file = BytesIO(head + content)
    file.seek(len(head))
    return file


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_deeper_ones_are_refused(way: object) -> None:
    syntax = WAYS[way]  # type: ignore[index]
    rest = REST if syntax == EXPLICIT else b""
    refuse_deep(file_of(way(rest, DEEPEST), syntax), syntax)  # type: ignore[operator]
    for levels in (DEEPEST + 1, 100, 5000):
        with pytest.raises(TooDeepError):
            refuse_deep(file_of(way(rest, levels), syntax), syntax)  # type: ignore[operator]


@pytest.mark.parametrize("way", TOLD_WRONGLY, ids=lambda way: way.__name__)
def test_what_is_told_wrongly_is_taken_where_nothing_can_be_nested_deep(way: object) -> None:
    syntax = TOLD_WRONGLY[way]  # type: ignore[index]
    refuse_deep(file_of(way(REST, DEEPEST), syntax), syntax)  # type: ignore[operator]
    for levels in (DEEPEST + 1, 100, 5000):
        with pytest.raises(ValueError, match="more than 24 items"):
            refuse_deep(file_of(way(REST, levels), syntax), syntax)  # type: ignore[operator]


@pytest.mark.parametrize("vr", [b"SQ", b"UN", b"OB", b"UT", b"  "])
def test_no_sequence_stands_before_a_dataset(vr: bytes) -> None:
    head = file_head("1.2.840.10008.5.1.4.1.1.88.33", "1.2.3", EXPLICIT)
    refuse_sequences_before(BytesIO(head + REST), len(head))
    longer = head + struct.pack("<HH2sHI", 0x0002, 0x0102, vr, 0, UNDEFINED) + item(b"") + ENDS[1]
    with pytest.raises(ValueError, match=r"\(0002,0102\)"):
        refuse_sequences_before(BytesIO(longer + REST), len(longer))


@pytest.mark.parametrize("levels", [1, 3])
def test_an_end_within_a_sequence_is_told(levels: int) -> None:
    content = undefined(REST, levels)
    refuse_deep(file_of(content, EXPLICIT), EXPLICIT)
    for end in range(len(REST) + 30 * levels, len(content)):
        with pytest.raises(ValueError, match="within a sequence"):
            refuse_deep(file_of(content[:end], EXPLICIT), EXPLICIT)


def test_what_is_within_a_sequence_does_not_end_behind_it() -> None:
    """Its item has no length, and is longer than it: who follows either comes to another end."""
    inner = item(struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 40_000) + bytes(40_000) + ENDS[0], UNDEFINED)
    lying = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 8) + inner
    refuse_deep(file_of(lying + REST, EXPLICIT), EXPLICIT)
    with pytest.raises(ValueError, match="more than 24 items"):
        refuse_deep(file_of(lying + undefined(REST, 100), EXPLICIT), EXPLICIT)


ODD = struct.pack("<HH2sH2s", 0x0008, 0x0005, b"lo", 2, b"ab")


def test_what_is_odd_is_not_inflated_as_a_whole() -> None:
    large = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 200 << 20) + bytes(200 << 20)
    file = file_of(deflated(ODD + large, 0), DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="deflated"):
            refuse_deep(file, DEFLATED)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_what_is_odd_is_taken_where_nothing_can_be_nested_deep() -> None:
    refuse_deep(file_of(ODD + explicit(REST, DEEPEST), EXPLICIT), EXPLICIT)
    with pytest.raises(ValueError, match="more than 24 items"):
        refuse_deep(file_of(ODD + explicit(REST, DEEPEST + 1), EXPLICIT), EXPLICIT)


def test_many_beside_each_other_are_not_deep() -> None:
    one = explicit(REST, 3)
    beside = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item(one)) * 1000) + item(one) * 1000
    refuse_deep(file_of(beside, EXPLICIT), EXPLICIT)


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_files_as_there_are_pass(path: Path) -> None:
    try:
        pydicom.dcmread(path)
        with path.open("rb") as file:
            syntax = read_syntax(file)
    except Exception:
        pytest.skip("no DICOM file that says its transfer syntax")
    with path.open("rb") as file:
        read_syntax(file)
        refuse_deep(file, syntax)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(300 << 20), "inflates to more than 256 MB"),
        (struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 0) * 1_100_000, "inflates to more than 1,000,000 elements"),
    ],
    ids=["large", "many"],
)
def test_what_unfolds_is_refused(content: bytes, why: str) -> None:
    begin = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, len(content)) if not any(content[:8]) else b""
    with pytest.raises(ValueError, match=why):
        refuse_deep(file_of(deflated(begin + content, 0), DEFLATED), DEFLATED)
