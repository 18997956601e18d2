"""Files' heads, and attributes read without decoding, against pydicom."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from datasets import PYDICOM_FILES
from dimse.part10 import IMPLICIT, encode, file_head, read_syntax, read_texts, read_texts_slowly
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

TAGS = (0x00100020, 0x0020000D, 0x0020000E, 0x00080018)
KEYWORDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def encoded(dataset: Dataset, syntax: str) -> bytes:
    target = BytesIO()
    encode(dataset, syntax, target)
    return target.getvalue()


def made(**attributes: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2", "1.2.30"
    dataset.PatientID = "P"
    # Beyond the last tag, so that its end is met.
    dataset.Rows = dataset.Columns = 1
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_head_is_what_pydicom_reads() -> None:
    file = BytesIO(file_head(CTImageStorage, "1.2.3", ExplicitVRLittleEndian) + encoded(made(), ExplicitVRLittleEndian))
    read = pydicom.dcmread(file)
    assert read.PatientID == "P"
    meta = read.file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CTImageStorage, "1.2.3")
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [IMPLICIT, str(ExplicitVRLittleEndian)])
@pytest.mark.parametrize("patient", ["", "A", "AB ", " AB", "300/" * 60])
def test_plain_texts_are_read_at_once(syntax: str, patient: str) -> None:
    content = encoded(made(PatientID=patient), syntax)
    expected = read_texts_slowly(BytesIO(content), syntax, TAGS)
    assert read_texts(content, syntax, TAGS) == expected
    assert expected[TAGS[0]] == str(pydicom.dcmread(BytesIO(content), force=True).get("PatientID") or "")


@pytest.mark.parametrize("patient", ["Müller", "A\\B"])
def test_others_are_left_to_pydicom(patient: str) -> None:
    content = encoded(made(SpecificCharacterSet="ISO_IR 192", PatientID=patient), ExplicitVRLittleEndian)
    assert read_texts(content, ExplicitVRLittleEndian, TAGS) is None


@pytest.mark.parametrize("lengths", [[2 << 20], [0] * 200_000], ids=["large", "many"])
def test_file_meta_information_has_a_largest_size(lengths: list[int]) -> None:
    more = b"".join(struct.pack("<HH2sHI", 2, 0x0102, b"OB", 0, length) + bytes(length) for length in lengths)
    content = file_head(CTImageStorage, "1.2.3", ExplicitVRLittleEndian) + more + encoded(made(), ExplicitVRLittleEndian)
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_syntax(BytesIO(content))


def test_several_values_are_one_text() -> None:
    content = encoded(made(PatientID="A\\B"), ExplicitVRLittleEndian)
    assert read_texts_slowly(BytesIO(content), ExplicitVRLittleEndian, TAGS)[TAGS[0]] == "A\\B"


def test_a_beginning_that_ends_too_soon_is_told() -> None:
    content = encoded(made(), ExplicitVRLittleEndian)
    whole = read_texts(content, ExplicitVRLittleEndian, TAGS)
    for length in range(len(content)):
        assert read_texts(content[:length], ExplicitVRLittleEndian, TAGS) in (None, whole)


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        syntax = dataset.file_meta.TransferSyntaxUID
    except Exception:
        pytest.skip("not a file with a transfer syntax")
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        content = file.read()
    expected = {tag: str(dataset.get(keyword) or "") for tag, keyword in zip(TAGS, KEYWORDS, strict=True)}
    assert read_texts_slowly(BytesIO(content), syntax, TAGS) == expected
    quick = read_texts(content, syntax, TAGS)
    assert quick is None or quick == expected
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        assert quick is None
