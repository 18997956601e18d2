"""What is the same instance under a UID, and what is another one."""

from __future__ import annotations

from pathlib import Path

import pytest
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
