"""What a search finds of a study, a series and an instance (PS3.18 10.6.3.3), made of what its instances have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dicomweb.dataset import Dataset, element, values
from dicomweb.levels import ALL, RETURNED

_MODALITY, _SOP_CLASS = "00080060", "00080016"
_MODALITIES, _SOP_CLASSES = "00080061", "00080062"
_STUDY_SERIES, _STUDY_INSTANCES, _SERIES_INSTANCES = "00201206", "00201208", "00201209"
_AVAILABILITY, _RETRIEVE_URL = "00080056", "00081190"


@dataclass(frozen=True)
class Row:
    """A result of searches at a level, with the UIDs down to that level."""

    level: str
    study: str
    series: str
    uid: str
    attributes: Dataset


def chosen(attributes: Dataset, level: str) -> Dataset:
    """Return the attributes that belong to a level."""
    return {tag: attributes[tag] for tag in (*RETURNED[level], *ALL[level]) if tag in attributes}


def _made(level: str, study: str, series: str, uid: str, attributes: Dataset, url: str) -> Row:
    further = {_AVAILABILITY: element("CS", "ONLINE"), _RETRIEVE_URL: element("UR", url)}
    return Row(level, study, series, uid, dict(sorted((attributes | further).items())))


def instance_row(study: str, series: str, uid: str, attributes: Dataset, base: str) -> Row:
    """Return the row of an instance; `base` is the address of the tree."""
    url = f"{base}/studies/{study}/series/{series}/instances/{uid}"
    return _made("IMAGE", study, series, uid, chosen(attributes, "IMAGE"), url)


def series_row(study: str, series: str, attributes: Dataset, count: int, base: str) -> Row:
    """Return the row of a series of so many instances, of the attributes of one."""
    counted = chosen(attributes, "SERIES") | {_SERIES_INSTANCES: element("IS", count)}
    return _made("SERIES", study, series, "", counted, f"{base}/studies/{study}/series/{series}")


def with_series(instances: Iterable[Row], series: Iterable[Row]) -> list[Dataset]:
    """Return what a search below a study alone finds of its instances: their attributes and their series' (PS3.18 10.6.1.2.3)."""
    of_series = {row.series: {tag: row.attributes[tag] for tag in RETURNED["SERIES"] if tag in row.attributes} for row in series}
    return [dict(sorted((of_series[row.series] | row.attributes).items())) for row in instances]


def study_row(study: str, series: Sequence[Dataset], instances: Iterable[Dataset], base: str) -> Row:
    """Return the row of a study, of the attributes of one instance of each series and of the rows of all its instances."""
    modalities = {value: None for attributes in series for value in values(attributes, _MODALITY) if value}
    classes: dict[str, None] = {}
    count = 0
    for attributes in instances:
        count += 1
        classes |= dict.fromkeys(values(attributes, _SOP_CLASS))
    counted = chosen(series[0], "STUDY") | {
        _MODALITIES: element("CS", *modalities),
        _SOP_CLASSES: element("UI", *classes),
        _STUDY_SERIES: element("IS", len(series)),
        _STUDY_INSTANCES: element("IS", count),
    }
    return _made("STUDY", study, "", "", counted, f"{base}/studies/{study}")
