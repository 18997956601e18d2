"""Brings what a study has and a server lacks to that server, and shows that it is there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from dicomweb.attributes import is_uid
from pipeline.engine import FailedError, PostponedError
from pipeline.feed import ChangeFeed
from pipeline.journal import Due, Held, Journal
from pipeline.orthanc import GoneError, Instance, Orthanc, RefusedError, Study

from pipeline_forwarder.routing import CALLING_AET, Routes
from pipeline_forwarder.settings import Settings

_LOG = logging.getLogger("pipeline.forward")
_SEARCH_PAGE = 1000
_LONGEST_OUTAGE_WAIT = 60.0
_CHANGED_ORTHANC_SECONDS = 5.0
_NOT_FOUND = 404
_OF_THE_REQUEST = frozenset({400, _NOT_FOUND, 406, 414})


class _Outages:
    """Which servers are away, and when each is to be tried again: one study does that, the others wait."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._until: dict[str, tuple[float, float, str]] = {}

    def check(self, server: str) -> None:
        """Raise PostponedError while a server is away, and it isn't time to try."""
        with self._turn:
            wait, until, reason = self._until.get(server, (0.0, 0.0, ""))
            left = until - time.monotonic()
            if left > 0:
                raise PostponedError(left + 0.1, reason)
            if wait:
                # This study tries; the others look again when that has been found out.
                self._until[server] = (wait, time.monotonic() + wait, reason)

    def begin(self, server: str, reason: str) -> PostponedError:
        with self._turn:
            wait = min(max(self._until.get(server, (0.5,))[0] * 2, 1.0), _LONGEST_OUTAGE_WAIT)
            if server not in self._until:
                _LOG.warning("server %s is away: %s", server, reason)
            self._until[server] = (wait, time.monotonic() + wait, reason)
        return PostponedError(wait, reason)

    def end(self, server: str) -> None:
        with self._turn:
            if self._until.pop(server, None):
                _LOG.warning("server %s is back", server)

    def now(self) -> dict[str, str]:
        with self._turn:
            return {server: reason for server, (_, _, reason) in self._until.items()}


class Forwarder:
    """Forwards studies of the gateway. A version of an instance that a server is shown to hold is written into the journal."""

    def __init__(self, gateway: Orthanc, journal: Journal, feed: ChangeFeed, settings: Settings) -> None:
        self._gateway = gateway
        self._journal = journal
        self._feed = feed
        self._settings = settings
        self._routes = Routes(settings.rules, settings.forward_to)
        # A stored version doesn't change: its attributes are read once, however often it is tried to be sent.
        self._servers_of = lru_cache(maxsize=100_000)(self._find_servers)
        self._outages = _Outages()
        self._servers = {*settings.forward_to, *(name for rule in settings.rules for name in rule.to)}

    @property
    def servers_away(self) -> dict[str, str]:
        """Return the servers that can't be reached, and why."""
        return self._outages.now()

    def work(self, due: Due, study: Study) -> None:
        """Forward what the study's servers lack. Raises PostponedError where a server is away, FailedError where one refuses."""
        instances = self._gateway.instances(study.id)
        self._feed.settle([instance.id for instance in instances])
        self._journal.know(study.id, study.uid, study.last_update, len(instances))
        failure = self._remove_deleted(due.id, instances)
        for server, wanted in self._wanted(instances).items():
            held = self._journal.held(study.id, server)
            missing = [instance for instance in wanted if held.get(instance.id) != instance.file]
            if not missing:
                continue
            try:
                self._outages.check(server)
                self._bring(server, study, missing)
            except PostponedError as error:
                # The other servers don't wait for this one.
                failure = failure or error
            except FailedError as error:
                failure = error
        if failure:
            raise failure

    def gone(self, due: Due) -> None:
        """Have the servers delete a study; raise PostponedError where one is away, FailedError where one refuses."""
        if failure := self._remove_deleted(due.id, ()):
            raise failure

    def _remove_deleted(self, study: str, instances: Sequence[Instance]) -> FailedError | PostponedError | None:
        """Have the servers delete what they have of a study and isn't among these; return what failed.

        A version that was replaced is deleted, too, before the new one is sent: a server may keep the first one.
        """
        if not self._settings.follow_deletions:
            return None
        failure: FailedError | PostponedError | None = None
        files = {instance.id: instance.file for instance in instances}
        for server, found in self._journal.holders(study).items():
            held = self._named(study, server, found, instances)
            deleted = [each for each in held if each.uid and _is_deleted(each, files)]
            if not deleted or server not in self._servers:
                continue
            try:
                if not self._feed.is_continued():
                    raise PostponedError(_CHANGED_ORTHANC_SECONDS, "Orthanc has lost its index, or is another one")
                self._outages.check(server)
                self._remove(server, study, deleted)
            except PostponedError as error:
                failure = failure or error
            except FailedError as error:
                failure = error
        return failure

    def _named(self, study: str, server: str, held: list[Held], instances: Sequence[Instance]) -> list[Held]:
        """Return what is held with its UIDs, which a journal of before lacks, and write them down there."""
        if all(each.uid for each in held):
            return held
        known = {instance.id: instance for instance in instances}
        named = [
            replace(each, uid=known[each.instance].uid, series_uid=known[each.instance].series_uid)
            for each in held
            if not each.uid and each.instance in known
        ]
        self._journal.hold(study, server, named)
        return [each for each in held if each.uid] + named

    def _remove(self, server: str, study: str, deleted: Sequence[Held]) -> None:
        """Have a server delete instances, in as few requests as say it."""
        uid = self._journal.uid(study)
        if not is_uid(uid):
            # No address names it, so that it was never shown to be there.
            self._journal.let_go(study, server, (each.instance for each in deleted))
            return
        there = self._held_by(server, uid)
        kept = self._journal.held_of_others(study, server)
        gone = {each.uid: each.series_uid for each in deleted if each.uid in there and each.uid not in kept}
        for series, instance in _deletions(gone, there):
            try:
                self._gateway.delete_at_server(server, uid, series, instance, self._settings.request_seconds)
            except RefusedError as error:
                if error.status == _NOT_FOUND:
                    continue
                raise FailedError(f"{server} doesn't delete {uid}: {error}") from None
        self._journal.let_go(study, server, (each.instance for each in deleted))
        # Another patient's study of this UID may have been refused as long as this one was there.
        self._journal.bring_back([uid])
        _LOG.info("study %s server %s deleted %d instances", uid, server, len(gone))

    def _wanted(self, instances: Iterable[Instance]) -> dict[str, list[Instance]]:
        wanted: dict[str, list[Instance]] = {}
        for instance in instances:
            for server in self._servers_of(instance):
                wanted.setdefault(server, []).append(instance)
        return wanted

    def _find_servers(self, instance: Instance) -> tuple[str, ...]:
        def attributes() -> dict[str, str]:
            return self._gateway.tags(instance.id) | {CALLING_AET: self._gateway.metadata(instance.id).get("RemoteAET", "")}

        return self._routes.of(attributes)

    def _bring(self, server: str, study: Study, missing: list[Instance]) -> None:
        refusals: dict[str, str] = {}
        if self._settings.follow_deletions:
            # It may have it whatever ends this: what is deleted meanwhile is known to be looked for there.
            self._journal.hold(study.id, server, (replace(_held(each), file="") for each in missing))
        for batch in self._batches(missing):
            began = time.monotonic()
            if reason := self._stow(server, batch):
                self._held_by(server, study.uid)
                # One that the server doesn't take must not keep the others. Each is sent again, also what the server finds: it may
                # be the version before.
                for instance in batch:
                    if alone := self._stow(server, [instance]) if len(batch) > 1 else reason:
                        refusals[instance.uid] = alone
            _LOG.info("study %s server %s sent %d instances in %.2f s", study.uid, server, len(batch), time.monotonic() - began)
        there = self._held_by(server, study.uid)
        shown = [instance for instance in missing if instance.uid in there and instance.uid not in refusals]
        self._journal.hold(study.id, server, map(_held, shown))
        if len(shown) == len(missing):
            _LOG.info("study %s server %s holds it", study.uid, server)
            return
        first = next(instance.uid for instance in missing if instance not in shown)
        reason = refusals.get(first, "it took them and doesn't find them")
        raise FailedError(f"{server} lacks {len(missing) - len(shown)} instances, such as {first}: {reason}")

    def _batches(self, instances: list[Instance]) -> Iterator[list[Instance]]:
        batch: list[Instance] = []
        size = 0
        for instance in instances:
            full = len(batch) == self._settings.instances_per_request
            if batch and (full or size + instance.size > self._settings.megabytes_per_request * 1_000_000):
                yield batch
                batch, size = [], 0
            batch.append(instance)
            size += instance.size
        if batch:
            yield batch

    def _stow(self, server: str, batch: list[Instance]) -> str:
        """Send a batch; return why that failed, or nothing."""
        try:
            self._gateway.stow(server, [instance.id for instance in batch], self._settings.request_seconds)
        except RefusedError as error:
            return str(error)
        return ""

    def _held_by(self, server: str, study: str) -> dict[str, str]:
        """Return the instances that a server finds of a study, and the series of each, all by their UIDs.

        Raises PostponedError where it answers no search either.
        """
        found: dict[str, str] = {}
        path = f"/studies/{quote(study, safe='')}/instances"
        while True:
            arguments = {"limit": str(_SEARCH_PAGE), "offset": str(len(found)), "includefield": "00080018"}
            try:
                page = self._gateway.ask_server(server, path, arguments, self._settings.search_seconds)
            except RefusedError as error:
                if error.status in _OF_THE_REQUEST:
                    # It is about this study: what is wrong with that is no outage for others.
                    raise FailedError(f"{server} can't be asked for study {study:.64}: {error}") from None
                raise self._outages.begin(server, str(error)) from None
            listed = {_uid(entry, "00080018"): _uid(entry, "0020000E") for entry in page}
            if not listed.keys() - found.keys():
                break
            found |= listed
            if len(page) < _SEARCH_PAGE:
                break
        self._outages.end(server)
        return found

    def let_go(self) -> int:
        """Delete from the gateway what its servers have held for long enough; return how many instances.

        Each instance is looked at once more: what came or was changed meanwhile stays.
        """
        if self._settings.keep_days < 0:
            return 0
        count = 0
        for study in self._journal.done(before=time.time() - self._settings.keep_days * 86400):
            try:
                count += self._let_go(self._gateway.study(study))
            except GoneError:
                self._journal.forget(study)
            except (PostponedError, FailedError) as error:
                _LOG.warning("study %s stays on the gateway: %s", study, error)
        return count

    def _let_go(self, study: Study) -> int:
        instances = self._gateway.instances(study.id)
        for server, wanted in self._wanted(instances).items():
            held = self._journal.held(study.id, server)
            there = self._held_by(server, study.uid)
            lacking = [instance for instance in wanted if held.get(instance.id) != instance.file or instance.uid not in there]
            if lacking:
                _LOG.warning("study %s server %s lacks %d instances that it had: sent again", study.uid, server, len(lacking))
                self._journal.do_over([study.uid])
                return 0
        count = 0
        for instance in instances:
            try:
                if self._gateway.instance_file(instance.id) == instance.file:
                    self._gateway.delete_instance(instance.id)
                    count += 1
            except GoneError:
                continue
        _LOG.info("study %s let go: %d instances deleted from the gateway", study.uid, count)
        return count


def _held(instance: Instance) -> Held:
    return Held(instance.id, instance.file, instance.uid, instance.series_uid)


def _uid(entry: Mapping[str, Any], tag: str) -> str:
    values = entry.get(tag, {}).get("Value")
    return str(values[0]) if values else ""


def _is_deleted(held: Held, files: Mapping[str, str]) -> bool:
    """Return whether it isn't among these files, by Orthanc's identifiers, or as another version; what may be there has none."""
    return held.instance not in files or held.file not in ("", files[held.instance])


def _deletions(gone: Mapping[str, str], there: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield series and instance of what is to be deleted of a study, of which a server has `there`; all of them are nothing."""
    if not gone:
        return
    if gone.keys() == there.keys():
        yield "", ""
        return
    for series in dict.fromkeys(gone.values()):
        of_series = {uid for uid, its in gone.items() if its == series}
        if of_series == {uid for uid, its in there.items() if its == series}:
            yield series, ""
        else:
            yield from ((series, uid) for uid in sorted(of_series))
