"""Instances in another transfer syntax have the pixels that they had, over pydicom's files and odder ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy
import pytest
from datasets import PYDICOM_FILES, of_kind, with_nested_sequences
from dicomweb.errors import LostError, RequestError
from dicomweb.pixels import MADE_HERE, transcoded
from dicomweb.syntaxes import RLE
from odd_pixels import lacking_encapsulated
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import UID


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_it_has_the_same_pixels(path: Path, tmp_path: Path) -> None:
    try:
        expected = pixel_array(path)
    except Exception:
        pytest.skip("pydicom reads no pixels of it")
    made = 0
    for syntax in MADE_HERE:
        target = tmp_path / syntax
        try:
            transcoded(path, syntax, target)
        except RequestError as error:
            assert error.status == 406
            continue
        made += 1
        dataset = dcmread(target)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        assert numpy.array_equal(pixel_array(dataset), expected), syntax
        assert not dataset.file_meta.TransferSyntaxUID.is_encapsulated or dataset.get("PlanarConfiguration", 0) == 0
    assert made >= 2


@pytest.mark.parametrize("levels", [25, 1000])
def test_sequences_that_are_nested_too_deep_are_not_written_anew(levels: int, tmp_path: Path) -> None:
    """pydicom would take minutes and gigabytes."""
    with pytest.raises(RequestError, match="nested deeper") as caught:
        transcoded(with_nested_sequences(levels, tmp_path).path, MADE_HERE[1], tmp_path / "made")
    assert caught.value.status == 406


def test_a_file_that_is_gone_is_no_wrong_syntax(tmp_path: Path) -> None:
    with pytest.raises(LostError):
        transcoded(tmp_path / "gone", MADE_HERE[0], tmp_path / "made")


def table(offsets: list[int]) -> bytes:
    return struct.pack(f"<HHI{len(offsets)}I", 0xFFFE, 0xE000, 4 * len(offsets), *offsets)


def many_frames(directory: Path) -> tuple[Dataset, list[bytes], list[int]]:
    """Return an instance of RLE, its frames, and where they begin."""
    dataset = of_kind("ct", directory).dataset
    dataset.NumberOfFrames = 5
    pixels = numpy.random.default_rng(1).integers(0, 4096, (5, dataset.Rows, dataset.Columns))
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset.compress(UID(RLE), generate_instance_uid=False)
    found = list(generate_frames(dataset.PixelData, number_of_frames=5))
    begins = list(accumulate((len(frame) + 8 for frame in found[:-1]), initial=0))
    return dataset, found, begins


ODD_TABLES: dict[str, Callable[[list[int]], list[int]]] = {
    "none": lambda begins: [],
    "short": lambda begins: begins[: len(begins) // 2],
    "from itself": lambda begins: [begin + 8 for begin in begins],
    "reversed": lambda begins: begins[::-1],
    "zeros": lambda begins: [0] * len(begins),
    "beyond the end": lambda begins: [*begins[:-1], 0xFFFFFFF0],
}


@pytest.mark.parametrize("kind", ODD_TABLES)
@pytest.mark.parametrize("is_extended", [False, True])
def test_odd_tables_of_offsets_lose_no_frame(kind: str, is_extended: bool, tmp_path: Path) -> None:
    dataset, found, begins = many_frames(tmp_path)
    expected = pixel_array(dataset)
    odd = ODD_TABLES[kind](begins)
    fragments = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame for frame in found)
    dataset.PixelData = table([] if is_extended else odd) + fragments
    dataset["PixelData"].is_undefined_length = True
    if is_extended and odd:
        dataset.ExtendedOffsetTable = struct.pack(f"<{len(odd)}Q", *odd)
        dataset.ExtendedOffsetTableLengths = struct.pack(f"<{len(found)}Q", *map(len, found))
    path = tmp_path / "odd.dcm"
    dataset.save_as(path)
    for syntax in MADE_HERE:
        transcoded(path, syntax, tmp_path / syntax)
        made = dcmread(tmp_path / syntax)
        assert "ExtendedOffsetTable" not in made
        assert "ExtendedOffsetTableLengths" not in made
        assert made.NumberOfFrames == len(found)
        assert numpy.array_equal(pixel_array(made), expected), syntax


def test_frames_that_lack_are_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="end before frame 3 of 4") as caught:
        transcoded(lacking_encapsulated(tmp_path).path, MADE_HERE[0], tmp_path / "made")
    assert caught.value.status == 406


@pytest.mark.parametrize("bits", [2, 7, 8, 9, 12])
@pytest.mark.parametrize("is_signed", [False, True])
def test_few_bits_of_sixteen(bits: int, is_signed: bool, tmp_path: Path) -> None:
    dataset = of_kind("ct", tmp_path).dataset
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(is_signed)
    least, most = (-(1 << (bits - 1)), 1 << (bits - 1)) if is_signed else (0, 1 << bits)
    pixels = numpy.random.default_rng(1).integers(least, most, (dataset.Rows, dataset.Columns))
    dataset.PixelData = pixels.astype("<i2").tobytes()
    path = tmp_path / "few.dcm"
    dataset.save_as(path)
    for syntax in MADE_HERE:
        transcoded(path, syntax, tmp_path / syntax)
        made = dcmread(tmp_path / syntax)
        assert (made.BitsAllocated, made.BitsStored, made.HighBit) == (16, bits, bits - 1)
        assert numpy.array_equal(pixel_array(made), pixels), syntax
