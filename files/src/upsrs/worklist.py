"""The transactions of UPS-RS (PS3.18 11.4 to 11.12), each one transaction of the database."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from dicomweb.attributes import vrs_of
from dicomweb.dataset import Dataset, element, first
from dicomweb.errors import RequestError
from dicomweb.query import Matching, Query
from service.database import Connection, Pool

from upsrs import events, outbox, states, store, subscriptions, tags
from upsrs.database import in_transaction
from upsrs.names import checked_uid, new_uid
from upsrs.search import condition
from upsrs.settings import Settings
from upsrs.workitem import apply_update, final_state_problems, in_state, prepare_new, with_cancellation

UPDATE_INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."

# What a search returns of each workitem besides the keys and includefield: the attributes of a worklist (PS3.4 Table CC.2.5-3).
_RETURNED = frozenset(
    {
        tags.SPECIFIC_CHARACTER_SET,
        tags.SOP_CLASS_UID,
        tags.SOP_INSTANCE_UID,
        tags.TIMEZONE_OFFSET,
        tags.SCHEDULED_START,
        tags.EXPECTED_COMPLETION,
        tags.MODIFICATION_DATETIME,
        tags.SCHEDULED_WORKITEM_CODES,
        tags.STATION_NAME_CODES,
        tags.HUMAN_PERFORMERS,
        tags.READINESS,
        tags.STATE,
        tags.PROGRESS_INFORMATION,
        tags.PRIORITY,
        tags.WORKLIST_LABEL,
        tags.STEP_LABEL,
        tags.REPLACED_STEP,
        tags.PATIENT_NAME,
        tags.PATIENT_ID,
        "00080081",
        "00081080",
        "00081084",
        "00100021",
        "00100030",
        "00100040",
        "00101002",
        "0020000D",
        "00380010",
        "00380014",
        "00400400",
        "00404021",
        "00404026",
        "00404027",
        "0040A370",
        "00741210",
    }
)


@dataclass(frozen=True)
class Answer:
    """What a transaction answers: `warning` is the text of the Warning header, `woken` who has new events."""

    status: int
    datasets: list[Dataset] = field(default_factory=list)
    uid: str = ""
    warnings: tuple[str, ...] = ()
    woken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Worklist:
    """The transactions, over a database."""

    pool: Pool
    settings: Settings

    async def _run(self, work: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        answer = await in_transaction(self.pool, work)
        await outbox.announce(self.pool, answer.woken)
        return answer

    async def create(self, given: Dataset, uid: str | None) -> Answer:
        """Create a workitem (11.4): 201; 400, 409."""
        named = {str(value) for tag in (tags.SOP_INSTANCE_UID, tags.AFFECTED_SOP_INSTANCE_UID) if (value := first(given, tag))}
        named |= {uid} if uid else set()
        if len(named) > 1:
            raise RequestError(400, f"The workitem has several UIDs: {', '.join(sorted(named))}. Give one.")
        chosen = checked_uid(named.pop()) if named else new_uid()
        if chosen in tags.WORKLISTS:
            raise RequestError(400, f"{chosen} is the UID of a worklist: give a workitem another.")
        settings = self.settings
        prepared = prepare_new(given, chosen, _now(), strict=settings.strict, worklist_label=settings.worklist_label)

        async def work(connection: Connection) -> Answer:
            await store.share_worklists(connection)
            await store.insert(connection, chosen, prepared.dataset)
            woken = await subscriptions.follow(connection, chosen, events.of_new(chosen, prepared.dataset))
            warnings = ("The Workitem was created with modifications.",) if prepared.modified else ()
            return Answer(201, uid=chosen, warnings=warnings, woken=tuple(woken))

        return await self._run(work)

    async def retrieve(self, uid: str) -> Answer:
        """Retrieve a workitem (11.5), without its Transaction UID: 200; 404, 410."""

        async def work(connection: Connection) -> Answer:
            return Answer(200, [(await store.fetch(connection, uid)).dataset], uid)

        return await in_transaction(self.pool, work, changes=False)

    async def update(self, uid: str, given: Dataset, transaction_uid: str | None) -> Answer:
        """Update a workitem (11.6): 200; 400, 404, 409, 410."""
        now = _now()

        async def work(connection: Connection) -> Answer:
            await store.share_worklists(connection)
            kept = await store.fetch(connection, uid, lock=True)
            _check_claim(kept, transaction_uid)
            named = first(given, tags.SOP_INSTANCE_UID) or uid
            if named != uid:
                raise RequestError(400, f"The body is of the workitem {named}.")
            prepared = apply_update(kept.dataset, given, now)
            warnings = ("The Workitem was updated with modifications.",) if prepared.modified else ()
            woken = await _keep(connection, kept, replace(kept, dataset=prepared.dataset), now)
            return Answer(200, uid=uid, warnings=warnings, woken=tuple(woken))

        return await self._run(work)

    async def change_state(self, uid: str, requested: str, transaction_uid: str | None) -> Answer:
        """Change a workitem's state (11.7): 200; 400, 404, 409, 410."""
        now = _now()

        async def work(connection: Connection) -> Answer:
            await store.share_worklists(connection)
            kept = await store.fetch(connection, uid, lock=True)
            decision = states.decide_change(kept.state, requested, transaction_uid, kept.transaction_uid)
            _refuse(decision)
            if decision.state is None:
                return _answer(decision, uid)
            dataset = in_state(kept.dataset, decision.state, now)
            problems = final_state_problems(dataset, decision.state) if decision.state in states.FINAL else []
            if problems:
                message = (
                    f"C304: The workitem can't be {decision.state} yet (PS3.4 Table CC.2.5-3): {', '.join(problems)} must be there."
                )
                raise RequestError(409, message, states.INCONSISTENT)
            changed = store.Workitem(uid, dataset, kept.transaction_uid or transaction_uid)
            return _answer(decision, uid, await _keep(connection, kept, changed, now))

        return await self._run(work)

    async def request_cancellation(self, uid: str, request: Dataset, requester: str | None) -> Answer:
        """Request a workitem's cancellation (11.8): 202; 400, 404, 409, 410."""
        now = _now()

        async def work(connection: Connection) -> Answer:
            await store.share_worklists(connection)
            kept = await store.fetch(connection, uid, lock=True)
            decision = states.decide_cancellation(kept.state, await subscriptions.performer_hears(connection, uid))
            _refuse(decision)
            if decision.state is None and not decision.warning:
                event = events.cancel_requested(uid, request, requester or self.settings.ae_title)
                return _answer(decision, uid, await outbox.add(connection, uid, [event]))
            if decision.state is None:
                return _answer(decision, uid)
            # Claimed by the server itself, then canceled: both are reported (PS3.4 CC.2.2.3).
            claimed = store.Workitem(uid, in_state(kept.dataset, states.IN_PROGRESS, now), new_uid())
            woken = await _keep(connection, kept, claimed, now)
            canceled = replace(claimed, dataset=in_state(with_cancellation(claimed.dataset, request), states.CANCELED, now))
            return _answer(decision, uid, [*woken, *await _keep(connection, claimed, canceled, now)])

        return await self._run(work)

    async def search(self, query: Query) -> Answer:
        """Search for workitems (11.9): 200, or the status for no match; 400."""
        wanted = condition(query.matching, fuzzy=query.fuzzy, empty_value=query.empty_value)
        most = self.settings.max_results
        limit = most if query.limit is None else min(query.limit, most)

        async def work(connection: Connection) -> Answer:
            found, remaining = await store.find(connection, wanted, limit, query.offset, most)
            kept = found if query.include_all else [_selected(dataset, query) for dataset in found]
            warnings = (f"There are {remaining} additional results that can be requested",) if remaining else ()
            return Answer(200 if kept else self.settings.empty_search_status, kept, warnings=warnings)

        return await in_transaction(self.pool, work, changes=False)

    async def subscribe(self, uid: str, aetitle: str, lock: bool, matching: Matching) -> Answer:
        """Subscribe to a workitem or worklist (11.10): 201; 400, 403, 404, 410."""
        if self.settings.subscribers and aetitle not in self.settings.subscribers:
            raise RequestError(403, f"{aetitle} may not subscribe: it is not among the AE titles that the site lists.")
        if matching and uid != tags.FILTERED_WORKLIST:
            raise RequestError(400, f"A filter is for the worklist {tags.FILTERED_WORKLIST} alone.")
        if uid == tags.FILTERED_WORKLIST and not matching:
            raise RequestError(400, "The filtered worklist needs a filter: ?filter=TagOrKeyword=value,…")
        granted = lock and self.settings.deletion_locks
        warnings = () if granted == lock else ("Deletion Lock not granted.",)

        async def work(connection: Connection) -> Answer:
            if uid in tags.WORKLISTS:
                woken = await subscriptions.subscribe_to_worklist(connection, uid, aetitle, granted, matching)
            else:
                woken = await subscriptions.subscribe_to_workitem(connection, uid, aetitle, granted)
            return Answer(201, uid=uid, warnings=warnings, woken=tuple(woken))

        return await self._run(work)

    async def unsubscribe(self, uid: str, aetitle: str) -> Answer:
        """End a subscription (11.11): 200; 404, 410."""

        async def work(connection: Connection) -> Answer:
            await subscriptions.unsubscribe(connection, uid, aetitle)
            return Answer(200, uid=uid)

        return await self._run(work)

    async def suspend(self, uid: str, aetitle: str) -> Answer:
        """Suspend a subscription to a worklist (11.12): 200; 400, 404."""
        if uid not in tags.WORKLISTS:
            raise RequestError(400, f"Only a subscription to a worklist can be suspended: {' or '.join(sorted(tags.WORKLISTS))}.")

        async def work(connection: Connection) -> Answer:
            await subscriptions.suspend(connection, uid, aetitle)
            return Answer(200, uid=uid)

        return await self._run(work)

    async def report_status(self, status: str) -> None:
        """Tell every subscriber, and those that the settings list, that the service is RESTARTED or GOING DOWN (PS3.4 CC.2.4)."""

        async def work(connection: Connection) -> Answer:
            return Answer(200, woken=tuple(await subscriptions.report_status(connection, status, self.settings.status_subscribers)))

        await self._run(work)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


async def _keep(connection: Connection, before: store.Workitem, after: store.Workitem, now: datetime.datetime) -> list[str]:
    """Save a change and leave its events; return whom to wake."""
    if after == before:
        return []
    await store.save(connection, after, now)
    woken = await outbox.add(connection, after.uid, events.of_change(after.uid, before.dataset, after.dataset))
    return woken + await subscriptions.follow(connection, after.uid, events.of_new(after.uid, after.dataset))


def _check_claim(kept: store.Workitem, transaction_uid: str | None) -> None:
    if kept.state in states.FINAL:
        raise RequestError(400, f"The workitem is {kept.state}, which is final.", UPDATE_INCONSISTENT)
    if kept.state == states.SCHEDULED and transaction_uid:
        message = "The workitem is SCHEDULED: update it without a Transaction UID, or claim it first."
        raise RequestError(409, message, "The target URI did not reference a claimed Workitem.")
    if kept.state == states.IN_PROGRESS and transaction_uid != kept.transaction_uid:
        message = states.UID_INCORRECT if transaction_uid else f"{states.UID_MISSING} Give it as ?transaction-uid=."
        raise RequestError(400, message, UPDATE_INCONSISTENT)


def _refuse(decision: states.Decision) -> None:
    if decision.status >= 400:
        raise RequestError(decision.status, f"{decision.code}: {decision.message}", decision.warning)


def _answer(decision: states.Decision, uid: str, woken: Sequence[str] = ()) -> Answer:
    return Answer(decision.status, uid=uid, warnings=(decision.warning,) if decision.warning else (), woken=tuple(woken))


def _selected(dataset: Dataset, query: Query) -> Dataset:
    asked = query.include | set(query.matching)
    shown = {tag: attribute for tag, attribute in dataset.items() if tag in _RETURNED or tag in asked}
    # What was asked for and isn't there is there, empty (PS3.18 8.3.4.3).
    absent = {tag: element(query_vr) for tag in asked - set(dataset) if (query_vr := _vr(tag))}
    return dict(sorted((shown | absent).items()))


def _vr(tag: str) -> str:
    found = vrs_of(tag)
    return min(found) if len(found) < 5 and tag != tags.TRANSACTION_UID else ""
