"""What a workitem must have at create, may change by update, and must have in its final state (PS3.4 Table CC.2.5-3)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from dicomweb.attributes import described, vrs_of
from dicomweb.dataset import Dataset, element, first, is_empty, values
from dicomweb.errors import RequestError

from upsrs import states, tags
from upsrs.events import REASONS

_REQUIRED = (tags.PRIORITY, tags.STEP_LABEL, tags.SCHEDULED_START, tags.READINESS, tags.STATE)
_PRESENT = (
    tags.WORKLIST_LABEL,
    "00741210",
    tags.STATION_NAME_CODES,
    "00404026",
    "00404027",
    tags.SCHEDULED_WORKITEM_CODES,
    "00400400",
    "00404021",
    tags.PATIENT_NAME,
    "00101002",
    "00100030",
    "00100040",
    "00380010",
    "00380014",
    "00081080",
    "00081084",
    "0040A370",
)
_EMPTY = (tags.TRANSACTION_UID, tags.PROGRESS_INFORMATION, tags.PERFORMED_PROCEDURE)
_FIXED = frozenset(
    {
        tags.STATE,
        tags.SOP_CLASS_UID,
        tags.SOP_INSTANCE_UID,
        tags.PATIENT_NAME,
        tags.PATIENT_ID,
        "00100030",
        "00100040",
        "00101002",
        "00380010",
        "00380014",
        "00081080",
        "00081084",
        "0040A370",
        tags.REPLACED_STEP,
    }
)
_TERMS = {
    tags.PRIORITY: ("HIGH", "MEDIUM", "LOW"),
    tags.READINESS: ("INCOMPLETE", "UNAVAILABLE", "READY"),
    tags.STATE: states.STATES,
}
_SINGLE_ITEM = (tags.PROGRESS_INFORMATION, tags.PERFORMED_PROCEDURE)
_FINAL = (tags.PRIORITY, tags.SCHEDULED_START, tags.READINESS, tags.STATE, tags.MODIFICATION_DATETIME)
_DISCONTINUED = {
    tags.CODE_VALUE: element("SH", "110513"),
    tags.CODING_SCHEME_DESIGNATOR: element("SH", "DCM"),
    tags.CODE_MEANING: element("LO", "Discontinued for unspecified reason"),
}


@dataclass(frozen=True)
class Prepared:
    """A dataset to keep; `modified` says that it isn't quite what was sent."""

    dataset: Dataset
    modified: bool


def timestamp(now: datetime.datetime) -> str:
    """Return an aware time as a DT with its offset from UTC (PS3.5 6.2)."""
    return now.strftime("%Y%m%d%H%M%S.%f%z")


def prepare_new(given: Dataset, uid: str, now: datetime.datetime, *, strict: bool, worklist_label: str) -> Prepared:
    """Return a new workitem; raise RequestError (400) that names the attribute which is missing or must not be there.

    Unless `strict`, what must be present but may be empty is filled in.
    """
    for tag in _EMPTY:
        if not is_empty(given, tag):
            raise RequestError(400, f"{described(tag)} must be empty in a new workitem.")
    made = {tag: attribute for tag, attribute in given.items() if tag not in _EMPTY and not tag.startswith("0000")}
    for tag in _REQUIRED:
        if is_empty(made, tag):
            raise RequestError(400, f"{described(tag)} is missing: a new workitem must have a value there.")
    _check_terms(made)
    if first(made, tags.STATE) != states.SCHEDULED:
        raise RequestError(400, f"{described(tags.STATE)} is {first(made, tags.STATE)}: a new workitem is SCHEDULED.")
    if first(made, tags.SOP_CLASS_UID) not in (None, tags.UPS_PUSH_CLASS):
        raise RequestError(400, f"{described(tags.SOP_CLASS_UID)} must be {tags.UPS_PUSH_CLASS}.")
    absent = [tag for tag in _PRESENT if tag not in made]
    if absent and strict:
        raise RequestError(400, f"{described(absent[0])} is missing: it may be empty, but must be there.")
    made |= {tag: element(min(vrs_of(tag))) for tag in absent}
    modified = bool(absent) or tags.MODIFICATION_DATETIME in given
    if is_empty(made, tags.WORKLIST_LABEL):
        made[tags.WORKLIST_LABEL] = element("LO", worklist_label)
    made |= {tag: element("SQ") for tag in _SINGLE_ITEM}
    made |= _server_set(given, uid, now)
    return Prepared(dict(sorted(made.items())), modified)


def _server_set(given: Mapping[str, object], uid: str, now: datetime.datetime) -> Dataset:
    made = {
        tags.SOP_CLASS_UID: element("UI", tags.UPS_PUSH_CLASS),
        tags.SOP_INSTANCE_UID: element("UI", uid),
        tags.MODIFICATION_DATETIME: element("DT", timestamp(now)),
    }
    if tags.SPECIFIC_CHARACTER_SET in given:
        # Whatever it was: it came as UTF-8 and leaves as UTF-8.
        made[tags.SPECIFIC_CHARACTER_SET] = element("CS", "ISO_IR 192")
    return made


def _check_terms(dataset: Dataset) -> None:
    for tag, terms in _TERMS.items():
        value = first(dataset, tag)
        if tag in dataset and (value not in terms or len(values(dataset, tag)) > 1):
            raise RequestError(400, f"{described(tag)} is {value!r}: give one of {', '.join(terms)}.")
    for tag in _SINGLE_ITEM:
        if len(values(dataset, tag)) > 1:
            raise RequestError(400, f"{described(tag)} has several items, but may have one only.")


def apply_update(kept: Dataset, given: Dataset, now: datetime.datetime) -> Prepared:
    """Return the workitem with the given attributes in place of its own, each as a whole.

    An attribute that may not change is accepted where it is sent as it is. Raises RequestError (400) that names the attribute.
    """
    changes = {tag: attribute for tag, attribute in given.items() if tag != tags.TRANSACTION_UID and not tag.startswith("0000")}
    modified = changes.pop(tags.MODIFICATION_DATETIME, None) not in (None, kept.get(tags.MODIFICATION_DATETIME))
    changes.pop(tags.SPECIFIC_CHARACTER_SET, None)
    for tag in sorted(_FIXED & set(changes)):
        if changes[tag] != kept.get(tag, {"vr": changes[tag]["vr"]}):
            raise RequestError(400, f"{described(tag)} may not be changed by an update.")
    for tag in _REQUIRED:
        if tag in changes and is_empty(changes, tag):
            raise RequestError(400, f"{described(tag)} must keep a value.")
    _check_terms(changes)
    if all(kept.get(tag) == attribute for tag, attribute in changes.items()):
        return Prepared(kept, modified)
    made = kept | changes | {tags.MODIFICATION_DATETIME: element("DT", timestamp(now))}
    return Prepared(dict(sorted(made.items())), modified)


def final_state_problems(dataset: Dataset, state: str) -> list[str]:
    """Return which requirements of the final state aren't met, each naming its attribute."""
    missing = [described(tag) for tag in _FINAL if is_empty(dataset, tag)]
    if state == states.COMPLETED:
        item = first(dataset, tags.PERFORMED_PROCEDURE) or {}
        where = described(tags.PERFORMED_PROCEDURE)
        valued = (tags.PERFORMED_START, tags.PERFORMED_WORKITEM_CODES, tags.PERFORMED_END)
        missing += [f"{where}.{described(tag)}" for tag in valued if is_empty(item, tag)]
        # These may be empty, but the performer must have thought of them.
        present = (tags.PERFORMED_STATION_NAME_CODES, tags.OUTPUT_INFORMATION)
        missing += [f"{where}.{described(tag)}" for tag in present if tag not in item]
    else:
        item = first(dataset, tags.PROGRESS_INFORMATION) or {}
        if is_empty(item, tags.DISCONTINUATION_REASON):
            missing.append(f"{described(tags.PROGRESS_INFORMATION)}.{described(tags.DISCONTINUATION_REASON)}")
    return missing


def in_state(dataset: Dataset, state: str, now: datetime.datetime) -> Dataset:
    """Return the workitem in another state, with the times that the server sets."""
    made = dataset | {tags.STATE: element("CS", state), tags.MODIFICATION_DATETIME: element("DT", timestamp(now))}
    if state == states.CANCELED:
        item = dict(first(made, tags.PROGRESS_INFORMATION) or {})
        if is_empty(item, tags.CANCELLATION_DATETIME):
            item[tags.CANCELLATION_DATETIME] = element("DT", timestamp(now))
        made[tags.PROGRESS_INFORMATION] = element("SQ", dict(sorted(item.items())))
    return dict(sorted(made.items()))


def with_cancellation(dataset: Dataset, request: Dataset) -> Dataset:
    """Return a SCHEDULED workitem with what its canceler said; without a code, the one for an unspecified reason."""
    item = dict(first(dataset, tags.PROGRESS_INFORMATION) or {})
    item |= {tag: request[tag] for tag in REASONS if not is_empty(request, tag)}
    if is_empty(item, tags.DISCONTINUATION_REASON):
        item[tags.DISCONTINUATION_REASON] = element("SQ", _DISCONTINUED)
    return dataset | {tags.PROGRESS_INFORMATION: element("SQ", dict(sorted(item.items())))}
