"""The instance that the checks store: small, made here, of a patient who doesn't exist."""

from __future__ import annotations

from datetime import datetime, timezone

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT_ID = "DICOMWEB-VERIFY"
ROWS = COLUMNS = 64


def made(study: str) -> Dataset:
    """Return a CT image of 64 by 64 pixels in the study with this UID, with file meta information."""
    now = datetime.now(timezone.utc)
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.PatientName = "Verify^Site"
    dataset.PatientID = PATIENT_ID
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.StudyID = "1"
    dataset.StudyDate = now.strftime("%Y%m%d")
    dataset.StudyTime = now.strftime("%H%M%S")
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "CT"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = ROWS
    dataset.Columns = COLUMNS
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.PixelData = b"".join((row * column).to_bytes(2, "little") for row in range(ROWS) for column in range(COLUMNS))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
