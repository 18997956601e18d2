"""The state machine of a workitem (PS3.4 CC.1.1, Table CC.1.1-2)."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULED = "SCHEDULED"
IN_PROGRESS = "IN PROGRESS"
COMPLETED = "COMPLETED"
CANCELED = "CANCELED"
STATES = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
FINAL = frozenset({COMPLETED, CANCELED})

INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
UID_MISSING = "The Transaction UID is missing."
UID_INCORRECT = "The Transaction UID is incorrect."
ALREADY = "The UPS is already in the requested state of {}."


@dataclass(frozen=True)
class Decision:
    """What a request does: the HTTP status, the state that follows (None for no change), the code of PS3.4, the Warning's text."""

    status: int
    state: str | None = None
    code: str = ""
    warning: str | None = None
    message: str = ""


def decide_change(state: str, requested: str, given_uid: str | None, held_uid: str | None) -> Decision:
    """Decide a change of state that was asked for with `given_uid`, where `held_uid` is the performer's Transaction UID.

    Whether the final-state requirements are met is for the caller to see (C304).
    """
    if requested not in STATES or requested == SCHEDULED:
        message = f"The state asked for is {requested[:40]!r}: give IN PROGRESS, COMPLETED or CANCELED."
        return Decision(400, code="C303", warning=INCONSISTENT, message=message)
    if not given_uid:
        return Decision(400, code="C301", warning=UID_MISSING, message="Give the Transaction UID, 00081195, in the body.")
    if state != SCHEDULED and given_uid != held_uid:
        return Decision(400, code="C301", warning=UID_INCORRECT, message="Another Transaction UID holds, or held, this workitem.")
    if state == requested and state in FINAL:
        return Decision(200, code="B304" if state == CANCELED else "B306", warning=ALREADY.format(state))
    if state in FINAL:
        return Decision(409, code="C300", warning=INCONSISTENT, message=f"The workitem is {state}, which is final.")
    if state == requested:
        return Decision(409, code="C302", warning=INCONSISTENT, message="The workitem is IN PROGRESS already.")
    if state == SCHEDULED and requested != IN_PROGRESS:
        return Decision(409, code="C310", warning=INCONSISTENT, message="The workitem is SCHEDULED: claim it first (IN PROGRESS).")
    return Decision(200, state=requested)


def decide_cancellation(state: str, performer_hears: bool) -> Decision:
    """Decide a request for cancellation; `performer_hears` says whether anybody is subscribed to the workitem (PS3.4 CC.2.2)."""
    if state == SCHEDULED:
        return Decision(202, state=CANCELED)
    if state == CANCELED:
        return Decision(202, code="B304", warning=ALREADY.format(CANCELED))
    if state == COMPLETED:
        warning = "The UPS is already COMPLETED."
        return Decision(409, code="C311", warning=warning, message="What is done can't be canceled.")
    if not performer_hears:
        warning = "The performer cannot be contacted."
        return Decision(409, code="C312", warning=warning, message="Nobody is subscribed to this workitem.")
    return Decision(202)
