"""Which attributes a search asks for, and at which level an attribute is (PS3.4 C.6.2, PS3.18 10.6.3.3)."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword


def _tags(*keywords: str) -> tuple[str, ...]:
    return tuple(f"{tag_for_keyword(keyword):08X}" for keyword in keywords)


_STUDY = _tags(
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "InstanceAvailability",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
_SERIES = _tags(
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "NumberOfSeriesRelatedInstances",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
_INSTANCE = _tags(
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames", "InstanceAvailability"
)
RETURNED = {"STUDY": _STUDY, "SERIES": _SERIES, "IMAGE": _INSTANCE}
"""What each level is asked for where nothing is said."""

_ALSO_STUDY = _tags(
    "SOPClassesInStudy",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "AdmittingDiagnosesDescription",
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthTime",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "Occupation",
    "AdditionalPatientHistory",
    "PatientComments",
    "NumberOfPatientRelatedStudies",
    "ProcedureCodeSequence",
    "InstitutionName",
    "TimezoneOffsetFromUTC",
)
_ALSO_SERIES = _tags(
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "ProtocolName",
    "Laterality",
    "PerformingPhysicianName",
    "OperatorsName",
    "StationName",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionalDepartmentName",
    "FrameOfReferenceUID",
)
_ALSO_INSTANCE = _tags(
    "ContentDate",
    "ContentTime",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "ImageType",
    "ImageComments",
    "ConceptNameCodeSequence",
    "CompletionFlag",
    "VerificationFlag",
    "ContentLabel",
    "ContentDescription",
    "PresentationCreationDate",
)
ALL = {"STUDY": _ALSO_STUDY, "SERIES": _ALSO_SERIES, "IMAGE": _ALSO_INSTANCE}
"""What `includefield=all` adds."""

UID_KEYWORDS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
UNIQUE = dict(zip(UID_KEYWORDS, _tags(*UID_KEYWORDS.values()), strict=True))
LEVELS = tuple(UID_KEYWORDS)


def level_of(tag: str, lowest: str) -> str:
    """Return the level that an attribute belongs to; what no level has as its own belongs to the lowest that is asked."""
    for level in LEVELS[: LEVELS.index(lowest) + 1]:
        if tag in RETURNED[level] or tag in ALL[level]:
            return level
    return lowest
