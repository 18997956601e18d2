"""Real DICOM to send: pydicom's own files of many kinds with UIDs of their own, a PDF, and a made study of any size."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy
import pydicom
from pydicom.data import get_testdata_file
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

# What each is: its kind and, where there are pixels, how they are encoded.
KINDS = {
    "ct": "CT_small.dcm",
    "mr": "MR_small.dcm",
    "mr-implicit": "MR_small_implicit.dcm",
    "mr-big-endian": "MR_small_bigendian.dcm",
    "mr-rle": "MR_small_RLE.dcm",
    "mr-jpeg-ls": "MR_small_jpeg_ls_lossless.dcm",
    "mr-jpeg-2000": "MR_small_jp2klossless.dcm",
    "nm-jpeg-2000": "JPEG2000.dcm",
    "jpeg-baseline": "SC_rgb_jpeg_dcmtk.dcm",
    "jpeg-extended": "JPGExtended.dcm",
    "jpeg-ls-near-lossless": "JPEGLSNearLossless_16.dcm",
    "sc-rgb": "SC_ybr_full_422_uncompressed.dcm",
    "sc-rle-multi-frame": "SC_rgb_rle_2frame.dcm",
    "us-palette": "examples_palette.dcm",
    "segmentation": "liver_1frame.dcm",
    "rt-dose-multi-frame": "rtdose.dcm",
    "rt-plan": "rtplan.dcm",
    "rt-structure-set": "rtstruct.dcm",
    "sr": "reportsi.dcm",
    "ecg": "waveform_ecg.dcm",
    "pdf": "",
}

_UNDEFINED = 0xFFFFFFFF

# Every DICOM file that comes inside pydicom's wheel. Its get_testdata_files() asks the internet for others each time it is called,
# and waits a minute where there is none.
PYDICOM_FILES = sorted((Path(DATA_ROOT) / "test_files").rglob("*.dcm"))


@dataclass(frozen=True)
class Instance:
    """One stored object: its dataset, and the file that is sent."""

    dataset: Dataset
    path: Path

    @property
    def url(self) -> str:
        """Its path below the root of DICOMweb."""
        data = self.dataset
        return f"/studies/{data.StudyInstanceUID}/series/{data.SeriesInstanceUID}/instances/{data.SOPInstanceUID}"


def pdf() -> Dataset:
    """Return an encapsulated PDF of one empty page."""
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.PatientName = "Encapsulated^PDF"
    dataset.PatientID = "PDF1"
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyTime = ""
    dataset.StudyDate = "20240102"
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.BurnedInAnnotation = "NO"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"
    dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def named(dataset: Dataset, study: str | None = None, series: str | None = None) -> Dataset:
    """Give the dataset UIDs of its own, so that a test can be run again on the same archive."""
    dataset.StudyInstanceUID = study or generate_uid(prefix=None)
    dataset.SeriesInstanceUID = series or generate_uid(prefix=None)
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    return dataset


def saved(dataset: Dataset, directory: Path) -> Instance:
    """Write the dataset and return what stands in the file."""
    path = directory / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Instance(pydicom.dcmread(path), path)


def of_kind(kind: str, directory: Path) -> Instance:
    """Return an instance of the kind with UIDs of its own."""
    if not KINDS[kind]:
        return saved(named(pdf()), directory)
    # One of them is a bare dataset without file meta information.
    dataset = pydicom.dcmread(str(get_testdata_file(KINDS[kind], download=False)), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return saved(named(dataset), directory)


def with_nested_sequences(levels: int, directory: Path) -> Instance:
    """Return an instance of sequences within each other: its dataset is what it is without them, since pydicom can't read many."""
    instance = of_kind("ct", directory)
    content = instance.path.read_bytes()
    pixels = content.index(struct.pack("<HH", 0x7FE0, 0x0010))
    begin = struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, _UNDEFINED, 0xFFFE, 0xE000, _UNDEFINED)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    instance.path.write_bytes(content[:pixels] + begin * levels + end * levels + content[pixels:])
    return instance


def ct_study(count: int, directory: Path, rows: int = 512, **attributes: str) -> list[Instance]:
    """Return a study of `count` CT images in one series, each `rows` squared of 16 bits."""
    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    noise = numpy.random.default_rng(1)
    instances = []
    for number in range(1, count + 1):
        dataset = named(source.copy(), study, series)
        dataset.file_meta = FileMetaDataset(source.file_meta)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.Rows = dataset.Columns = rows
        dataset.InstanceNumber = number
        dataset.PixelData = noise.integers(0, 4096, (rows, rows), dtype=numpy.uint16).tobytes()
        for name, value in attributes.items():
            setattr(dataset, name, value)
        instances.append(saved(dataset, directory))
    return instances


def read(content: bytes) -> Dataset:
    """Return the dataset of a DICOM file's bytes."""
    return pydicom.dcmread(io.BytesIO(content))


def comparable(dataset: Dataset) -> Dataset:
    """Return the dataset without what an implementation may change.

    Group lengths and trailing padding may be left out (PS3.5 7.2, PS3.10 7); encapsulated pixel data is OB (PS3.5 A.4), also
    where a file says OW.
    """
    result = Dataset({item.tag: item for item in dataset if item.tag.element != 0 and item.tag != 0xFFFCFFFC})
    if "PixelData" in result and dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        result["PixelData"].VR = "OB"
    return result


def same(one: Dataset, other: Dataset) -> bool:
    """Return whether two datasets have the same elements with the same values."""
    return comparable(one) == comparable(other)
