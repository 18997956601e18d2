"""The events of the worklist service, each one dataset of DICOM JSON (PS3.4 CC.2.4, PS3.18 11.13)."""

from __future__ import annotations

from dicomweb.dataset import Dataset, element, first, is_empty, values

from upsrs import tags

STATE_REPORT = 1
CANCEL_REQUESTED = 2
PROGRESS_REPORT = 3
SCP_STATUS_CHANGE = 4
ASSIGNED = 5

REASONS = (tags.CANCELLATION_REASON, tags.DISCONTINUATION_REASON)
CANCELLATION = (*REASONS, tags.CONTACT_URI, tags.CONTACT_NAME)
"""What a request for cancellation may say."""
_ASSIGNMENT = (tags.STATION_NAME_CODES, tags.HUMAN_PERFORMERS)
_PROGRESS = (tags.PROGRESS, tags.PROGRESS_DESCRIPTION, tags.PROGRESS_PARAMETERS)


def _event(uid: str, kind: int, content: Dataset) -> Dataset:
    envelope = {
        tags.AFFECTED_SOP_CLASS_UID: element("UI", tags.UPS_PUSH_CLASS),
        tags.AFFECTED_SOP_INSTANCE_UID: element("UI", uid),
        tags.EVENT_TYPE_ID: element("US", kind),
    }
    return envelope | content


def state_report(uid: str, dataset: Dataset) -> Dataset:
    """Return a UPS State Report of a workitem as it is."""
    content = {tag: dataset[tag] for tag in (tags.READINESS, tags.STATE)}
    progress = first(dataset, tags.PROGRESS_INFORMATION) or {}
    return _event(uid, STATE_REPORT, content | {tag: progress[tag] for tag in REASONS if not is_empty(progress, tag)})


def cancel_requested(uid: str, request: Dataset, requester: str) -> Dataset:
    """Return a UPS Cancel Requested with what the requester said."""
    content = {tags.REQUESTING_AE: element("AE", requester)}
    return _event(uid, CANCEL_REQUESTED, content | {tag: request[tag] for tag in CANCELLATION if not is_empty(request, tag)})


def scp_status_change(status: str) -> Dataset:
    """Return an SCP Status Change: RESTARTED or GOING DOWN. Subscriptions and workitems outlive both, so both lists start warm."""
    content = {
        tags.SCP_STATUS: element("CS", status),
        tags.SUBSCRIPTION_LIST_STATUS: element("CS", "WARM START"),
        tags.UPS_LIST_STATUS: element("CS", "WARM START"),
    }
    return _event(tags.GLOBAL_WORKLIST, SCP_STATUS_CHANGE, content)


def _assigned(uid: str, dataset: Dataset) -> Dataset:
    content: Dataset = {}
    if not is_empty(dataset, tags.STATION_NAME_CODES):
        content[tags.STATION_NAME_CODES] = dataset[tags.STATION_NAME_CODES]
    performers = values(dataset, tags.HUMAN_PERFORMERS)
    for tag, vr in ((tags.HUMAN_PERFORMER_CODES, "SQ"), (tags.HUMAN_PERFORMER_ORGANIZATION, "LO")):
        found = [value for performer in performers for value in values(performer, tag)]
        if found:
            content[tag] = element(vr, *found)
    return _event(uid, ASSIGNED, content)


def of_new(uid: str, dataset: Dataset) -> list[Dataset]:
    """Return the events of a workitem's creation."""
    assigned = [_assigned(uid, dataset)] if any(not is_empty(dataset, tag) for tag in _ASSIGNMENT) else []
    return [state_report(uid, dataset), *assigned]


def of_change(uid: str, before: Dataset, after: Dataset) -> list[Dataset]:
    """Return the events of a workitem's change from one content to another."""
    made = []
    if any(before.get(tag) != after.get(tag) for tag in (tags.STATE, tags.READINESS)):
        made.append(state_report(uid, after))
    old, new = (first(dataset, tags.PROGRESS_INFORMATION) or {} for dataset in (before, after))
    if any(old.get(tag) != new.get(tag) for tag in _PROGRESS):
        made.append(_event(uid, PROGRESS_REPORT, {tags.PROGRESS_INFORMATION: after[tags.PROGRESS_INFORMATION]}))
    if any(before.get(tag) != after.get(tag) for tag in _ASSIGNMENT):
        made.append(_assigned(uid, after))
    return made
