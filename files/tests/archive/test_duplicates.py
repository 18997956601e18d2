"""What is the same instance under a UID, and what is another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_dicomweb import duplicates
from archive_dicomweb.duplicates import is_same_instance
from datasets import PYDICOM_FILES
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

FILES = {path.name: path for path in PYDICOM_FILES}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MR_small.dcm", "MR_small.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("MR_small.dcm", "MR_small_RLE.dcm"),
        ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"),
    ],
)
def test_it_is_the_same_however_it_was_written(one: str, other: str) -> None:
    assert is_same_instance(FILES[one], FILES[other])
    assert is_same_instance(FILES[other], FILES[one])


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "CT_small.dcm"])
def test_it_is_the_same_as_another_program_writes_it(name: str, tmp_path: Path) -> None:
    dataset = dcmread(FILES[name])
    dataset.file_meta.ImplementationVersionName = "ANOTHER"
    dataset.DataSetTrailingPadding = b"\0" * 8
    dataset.save_as(tmp_path / "written.dcm", enforce_file_format=True)
    assert is_same_instance(FILES[name], tmp_path / "written.dcm")


def test_it_is_another_one(tmp_path: Path) -> None:
    path = FILES["CT_small.dcm"]
    pixels = dcmread(path)
    pixels.PixelData = pixels.PixelData[:-2] + b"\1\1"
    text = dcmread(path)
    text.PatientComments = "another"
    fewer = dcmread(path)
    del fewer.StudyDate
    implicit = dcmread(path)
    implicit.StudyDate = "20010101"
    for number, dataset in enumerate((pixels, text, fewer)):
        dataset.save_as(tmp_path / f"{number}.dcm")
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    implicit.save_as(tmp_path / "3.dcm", implicit_vr=True, little_endian=True)
    (tmp_path / "4.dcm").write_bytes(path.read_bytes()[:20_000])
    (tmp_path / "5.dcm").write_bytes(b"none")
    assert [is_same_instance(path, tmp_path / f"{number}.dcm") for number in range(7)] == [False] * 7


def test_what_would_fill_the_memory_is_compared_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = dcmread(FILES["CT_small.dcm"])
    large.NumberOfFrames, large.PixelData = 2100, large.PixelData * 2100
    large.save_as(tmp_path / "large.dcm")
    large.file_meta.ImplementationVersionName = "ANOTHER"
    large.save_as(tmp_path / "same.dcm", enforce_file_format=True)
    large.PatientComments = "another"
    large.save_as(tmp_path / "another.dcm")
    deflated = FILES["image_dfl.dcm"]
    (tmp_path / "deflated.dcm").write_bytes(deflated.read_bytes()[:-2])
    monkeypatch.setattr(duplicates, "_contents", lambda *_: pytest.fail("it was read"))
    assert is_same_instance(tmp_path / "large.dcm", tmp_path / "same.dcm")
    assert not is_same_instance(tmp_path / "large.dcm", tmp_path / "another.dcm")
    assert is_same_instance(deflated, deflated)
    assert not is_same_instance(deflated, tmp_path / "deflated.dcm")
