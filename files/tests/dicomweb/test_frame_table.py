"""Frames by their places in a file, compared with what pydicom finds by reading all of it."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy
import pydicom
import pytest
from datasets import PYDICOM_FILES
from dicomweb import frame_table
from dicomweb.errors import RequestError
from dicomweb.frame_table import FrameTable, Memory, OpenFrames, UntoldError, encapsulated, frame_bits, frame_count
from dicomweb.pixels import Rendering, frame_of, frames, frames_there, rendered
from dicomweb.syntaxes import JPEG_BASELINE, MPEG, NATIVE, RLE
from dimse.part10 import EXPLICIT, file_head
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.utils import pixel_array


def readable(path: Path) -> pydicom.Dataset | None:
    try:
        dataset = pydicom.dcmread(path)
        return dataset if "PixelData" in dataset and dataset.PixelData else None
    except Exception:
        return None


WITH_PIXELS = [path for path in PYDICOM_FILES if readable(path)]


def opened(path: Path) -> OpenFrames:
    try:
        return OpenFrames(path)
    except UntoldError:
        pytest.skip("deflated, or in big endian")


def expected(dataset: pydicom.Dataset) -> list[bytes]:
    count = frame_count(dataset)
    if dataset.file_meta.TransferSyntaxUID not in NATIVE:
        return list(generate_frames(dataset.PixelData, number_of_frames=count))
    bits, value = frame_bits(dataset), dataset.PixelData
    if bits % 8 == 0:
        whole = min(count, len(value) * 8 // bits)
        return [value[start : start + bits // 8] for start in range(0, whole * bits // 8, bits // 8)]
    told = "".join(f"{byte:08b}"[::-1] for byte in value)
    made = []
    for start in range(0, count * bits, bits):
        frame = told[start : start + bits].ljust(-(-bits // 8) * 8, "0")
        made.append(bytes(int(frame[at : at + 8][::-1], 2) for at in range(0, len(frame), 8)))
    return made


@pytest.mark.parametrize("path", WITH_PIXELS, ids=lambda path: path.name)
def test_a_frame_is_what_pydicom_finds(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    with opened(path) as found:
        try:
            whole = expected(dataset)
        except ValueError:
            assert found.table.there < found.table.count
            return
        assert [found.frame(number) for number in range(1, len(whole) + 1)] == whole
        value = b"".join(found.piece(at, 1000) for at in range(0, found.value_bytes, 1000))
        assert value == dataset.PixelData
    assert frames_there(dataset) == whole
    if whole:
        assert frames(dataset, [1], is_native=False) == whole[:1]


@pytest.mark.parametrize("path", WITH_PIXELS, ids=lambda path: path.name)
def test_a_frame_alone_is_decoded_as_among_the_others(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    with opened(path) as found:
        number = found.table.there
    if not number:
        pytest.skip("it has no whole frame")
    try:
        pixels = pixel_array(dataset, index=number - 1, raw=True)
    except Exception as error:
        pytest.skip(f"pydicom can't: {str(error)[:60]}")
    alone, place = frame_of(path, number)
    assert (place, frame_count(alone)) == (1, 1)
    assert numpy.array_equal(pixel_array(alone, index=0, raw=True), pixels)


class Counted(Memory):
    """Bytes that count how often they are read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reads = 0

    def read(self, at: int, count: int) -> bytes:
        self.reads += 1
        return super().read(at, count)


JPEG = [b"\xff\xd8" + bytes([number]) * (10 + number % 7 * 2) + b"\xff\xd9" for number in range(200)]


def table(content: Memory, count: int, extended: bytes = b"") -> FrameTable:
    return encapsulated(content, 0, JPEG_BASELINE, count, extended, content.size)


@pytest.mark.parametrize("has_bot", [True, False])
@pytest.mark.parametrize("fragments", [1, 3])
def test_each_way_to_tell_frames_apart_costs_a_read_a_fragment(has_bot: bool, fragments: int) -> None:
    content = Counted(encapsulate(JPEG, fragments, has_bot=has_bot))
    found = table(content, len(JPEG))
    assert content.reads <= len(JPEG) * fragments * 2 + 4
    assert [found.frame(content, number) for number in range(1, len(JPEG) + 1)] == JPEG


def test_an_extended_offset_table_is_read() -> None:
    value, offsets, _ = encapsulate_extended(JPEG)
    content = Counted(value)
    found = table(content, len(JPEG), offsets)
    assert [found.frame(content, number) for number in range(1, len(JPEG) + 1)] == JPEG


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 8, 16],
        [0] * 200,
        [4_000_000_000] * 200,
        list(range(200)),
        [0, *range(200, 1, -1)],
    ],
)
def test_a_table_that_leads_nowhere_is_none(offsets: list[int]) -> None:
    value = encapsulate(JPEG, has_bot=False)[8:]
    content = Memory(struct.pack("<HHI", 0xFFFE, 0xE000, 4 * len(offsets)) + struct.pack(f"<{len(offsets)}I", *offsets) + value)
    found = table(content, len(JPEG))
    assert [found.frame(content, number) for number in (1, 2, 200)] == [JPEG[0], JPEG[1], JPEG[199]]
    long = table(Memory(encapsulate(JPEG, has_bot=False)), len(JPEG), struct.pack("<2Q", 0, 1 << 63))
    assert long.there == len(JPEG)


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_frames_that_are_there_can_be_had(cut: int) -> None:
    content = Memory(encapsulate(JPEG, has_bot=False)[:-cut])
    found = encapsulated(content, 0, JPEG_BASELINE, len(JPEG))
    assert len(JPEG) - 60 < found.there < len(JPEG)
    assert found.frame(content, found.there) == JPEG[found.there - 1]
    with pytest.raises(RequestError, match=f"end before frame {found.there + 1} of 200") as lacking:
        found.frame(content, found.there + 1)
    assert lacking.value.status == 502


def test_what_can_not_be_told_apart_is_said() -> None:
    content = Memory(encapsulate([b"\0" * 10] * 5, has_bot=False))
    with pytest.raises(RequestError, match="can't be told apart: 5 fragments have 2"):
        encapsulated(content, 0, RLE, 2)
    with pytest.raises(RequestError, match="begin with an item for their offsets"):
        encapsulated(Memory(b"\0" * 100), 0, RLE, 2)


def test_a_stranger_decides_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_table, "_MOST_FRAGMENTS", 150)
    with pytest.raises(RequestError, match="more than 150 fragments"):
        table(Memory(encapsulate(JPEG, has_bot=True)), len(JPEG))
    assert table(Memory(encapsulate(JPEG[:150], has_bot=True)), 150).there == 150


def test_tables_are_kept_for_as_long_as_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_table, "_kept", frame_table._Kept(3 * 66))
    path = tmp_path / "image.dcm"
    source = next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm")
    path.write_bytes(source.read_bytes())
    with OpenFrames(path) as first, OpenFrames(path) as again:
        assert first.table is again.table
        before = first.frame(1)
        # Whoever has it open has it whole.
        path.unlink()
        path.write_bytes(source.read_bytes()[:-5000])
        assert first.frame(1) == before
    with OpenFrames(path) as other, pytest.raises(RequestError, match="end before frame 1 of 1"):
        other.frame(1)
    for number in range(4):
        (tmp_path / f"{number}.dcm").write_bytes(source.read_bytes())
        OpenFrames(tmp_path / f"{number}.dcm").close()
    assert len(frame_table._kept._tables) == 3


DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def saved(path: Path, syntax: str, value: bytes, count: int, end: bytes = DELIMITER) -> Path:
    """Write an instance with encapsulated pixels, whose value and what follows it are as they are given."""
    dataset = pydicom.dcmread(next(path for path in PYDICOM_FILES if path.name == "SC_rgb_rle_2frame.dcm"))
    del dataset.PixelData
    dataset.NumberOfFrames = count
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + value + end)
    return path


PIECES = [bytes([number]) * 20 for number in range(1, 5)]


@pytest.mark.parametrize("cut", [0, 5, 28])
@pytest.mark.parametrize("has_bot", [True, False])
@pytest.mark.parametrize(("fragments", "count"), [(1, 4), (2, 2), (4, 1)])
def test_a_frame_that_may_be_cut_off_is_not_sent(tmp_path: Path, fragments: int, count: int, has_bot: bool, cut: int) -> None:
    frames_ = [b"".join(PIECES[start : start + fragments]) for start in range(0, 4, fragments)]
    if fragments > 1 and not has_bot:
        frames_ = [frame[:-2] + b"\xff\xd9" for frame in frames_]
    value = encapsulate(frames_, fragments, has_bot=has_bot)
    path = saved(tmp_path / "cut.dcm", JPEG_BASELINE, value[: len(value) - cut], count, b"" if cut else DELIMITER)
    try:
        found = OpenFrames(path)
    except RequestError as error:
        assert (error.status, cut > 0) == (502, True)
        return
    with found:
        whole = count if not cut else count - 1
        assert found.table.there <= whole
        assert [found.frame(number) for number in range(1, found.table.there + 1)] == frames_[: found.table.there]
        assert found.table.there == whole or not has_bot


def test_a_video_is_one_stream(tmp_path: Path) -> None:
    value = encapsulate([b"".join(PIECES)], 4, has_bot=False)
    for count in (4, 300):
        with OpenFrames(saved(tmp_path / f"{count}.dcm", MPEG[-1], value, count)) as found:
            assert (found.table.there, found.frame(1)) == (1, b"".join(PIECES))


def test_a_table_of_offsets_that_has_too_few_is_none_where_fragments_are_as_many_as_frames() -> None:
    value = encapsulate(PIECES, has_bot=False)[8:]
    content = Memory(struct.pack("<HHII", 0xFFFE, 0xE000, 4, 0) + value)
    found = table(content, 4)
    assert [found.frame(content, number) for number in range(1, 5)] == PIECES


@pytest.mark.parametrize("length", [0x00F00000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_a_table_that_is_longer_than_the_file_is_told(tmp_path: Path, length: int) -> None:
    value = struct.pack("<HHI", 0xFFFE, 0xE000, length) + encapsulate(PIECES, has_bot=False)[8:]
    with pytest.raises(RequestError, match="can't be told apart") as told:
        OpenFrames(saved(tmp_path / "long.dcm", RLE, value, 4))
    assert told.value.status == 502


NATIVE_IMAGE = {
    0x00280002: ("US", struct.pack("<H", 1)),
    0x00280004: ("CS", b"MONOCHROME2 "),
    0x00280008: ("IS", b"1 "),
    0x00280010: ("US", struct.pack("<H", 10)),
    0x00280011: ("US", struct.pack("<H", 10)),
    0x00280100: ("US", struct.pack("<H", 8)),
    0x00280101: ("US", struct.pack("<H", 8)),
    0x00280102: ("US", struct.pack("<H", 7)),
    0x00280103: ("US", struct.pack("<H", 0)),
    0x7FE00010: ("OB", bytes(100)),
}


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280008, "DS", b"1e400 "),
        (0x00280008, "ZZ", b"12"),
        (0x00280008, "IS", b"inf "),
        (0x00280010, "FD", struct.pack("<d", float("inf"))),
        (0x00280010, "US", b"\1\2\3"),
        (0x00280010, "US", b"\0\0"),
        (0x7FE00001, "LO", b"text"),
        (0x52009229, "OB", b"text"),
        (0x52009230, "LO", b"text"),
        (0x7FE00008, "OF", b""),
        (0x7FE00010, "OL", bytes(100)),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, RLE])
@pytest.mark.filterwarnings("ignore")
def test_attributes_that_are_none_cost_one_answer(tmp_path: Path, syntax: str, tag: int, vr: str, value: bytes) -> None:
    content = file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", syntax)
    for key, (kind, written) in sorted({**NATIVE_IMAGE, tag: (vr, value)}.items()):
        is_long = kind in ("OB", "OF", "OL", "ZZ")
        length = struct.pack("<HI", 0, len(written)) if is_long else struct.pack("<H", len(written))
        content += struct.pack("<HH2s", key >> 16, key & 0xFFFF, kind.encode()) + length + written
    path = tmp_path / "odd.dcm"
    path.write_bytes(content)
    with contextlib.suppress(UntoldError, RequestError), OpenFrames(path) as found:
        assert found.value_bytes >= 0
        if found.table.there:
            assert found.frame(1) == bytes(100)
    with contextlib.suppress(RequestError):
        rendered(*frame_of(path, 1), Rendering())
