"""Identifiers of C-FIND, C-GET and C-MOVE (PS3.4 C.4), to and from the DICOM JSON model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dicomweb.attributes import BULK_VRS, described, usual_vr
from dicomweb.errors import RequestError
from dimse.part10 import IMPLICIT, encoded
from pydicom.config import IGNORE, settings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

# Archives have values that the standard doesn't want, and searches have patterns that no VR allows.
settings.reading_validation_mode = settings.writing_validation_mode = IGNORE

LEVEL = "00080052"
_UTF8 = "ISO_IR 192"

Keys = Mapping[str, Any]
"""Tags with the value to match, empty for one that is only to be returned; a tag of a sequence with the keys of its items."""


def identifier(level: str, keys: Keys) -> Callable[[str], bytes]:
    """Return what encodes an identifier in a transfer syntax; raise RequestError (400) for a value that can't be encoded."""
    dataset = _dataset(keys)
    dataset.QueryRetrieveLevel = level
    if not _is_ascii(keys):
        dataset.SpecificCharacterSet = _UTF8

    # Whatever is wrong with a value is found before anything is asked.
    try:
        encoded(dataset, IMPLICIT)
    except Exception as error:
        raise RequestError(400, f"The search has a value that no attribute can have: {str(error)[:200]}.") from None
    return partial(encoded, dataset)


def _is_ascii(keys: Keys) -> bool:
    return all(_is_ascii(value) if isinstance(value, Mapping) else str(value).isascii() for value in keys.values())


def _dataset(keys: Keys) -> Dataset:
    made = Dataset()
    for tag, value in sorted(keys.items()):
        vr = usual_vr(tag)
        if isinstance(value, Mapping):
            made.add(DataElement(Tag(int(tag, 16)), "SQ", Sequence([_dataset(value)])))
            continue
        if vr in BULK_VRS and value:
            raise RequestError(400, f"{described(tag)} can't be searched for.")
        if vr == "SQ":
            made.add(DataElement(Tag(int(tag, 16)), "SQ", Sequence([])))
            continue
        try:
            made.add(DataElement(Tag(int(tag, 16)), vr, value or None))
        except (ValueError, TypeError, OverflowError):
            raise RequestError(400, f"{described(tag)} has the value {str(value)[:80]!r}, which the VR {vr} can't have.") from None
    return made
