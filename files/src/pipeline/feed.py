"""Learns from Orthanc which studies there is something to do for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from pipeline.journal import Journal
from pipeline.orthanc import GoneError, Orthanc

_LOG = logging.getLogger("pipeline.feed")
# While instances come, their study may be stable at any moment.
_WATCHING_SECONDS = 0.1
# Places at which a feed is known again.
_LOOKED_BACK = 1000


class ChangeFeed:
    """Follows Orthanc's change feed into a journal.

    A study is noticed when Orthanc calls it stable. A restart of Orthanc forgets which studies were about to be so: an instance
    that came and whose study was not called stable in time has its study noticed all the same. What else may have been missed, in a
    time when this service or Orthanc was down, is found by comparing all studies with the journal.

    With `with_deletions`, a study is noticed, too, when something of it was deleted. Orthanc's feed doesn't have that: `deleted` is
    told, and what it wasn't is found by comparing. An Orthanc that has lost its index has deleted nothing.
    """

    def __init__(
        self,
        orthanc: Orthanc,
        journal: Journal,
        poll_seconds: float,
        stable_seconds: float,
        compare_seconds: float,
        *,
        with_deletions: bool = False,
    ) -> None:
        self._orthanc = orthanc
        self._journal = journal
        self._poll_seconds = poll_seconds
        # Orthanc looks for stable studies about once a second.
        self._patience = stable_seconds + 5
        self._compare_seconds = compare_seconds
        self._compare_at = 0.0
        self._with_deletions = with_deletions
        self._has_missed_deletions = with_deletions
        if with_deletions:
            journal.prepare_for_deletions()
        self._turn = threading.Lock()
        # Instances that came and whose study isn't settled yet, and when: the oldest first.
        self._unsettled: dict[str, float] = {}

    @property
    def arriving(self) -> int:
        """Return how many instances came whose study is not stable yet."""
        return len(self._unsettled)

    def settle(self, instances: list[str]) -> None:
        """Take instances as seen: their study was noticed, and they are part of what is worked on."""
        with self._turn:
            for instance in instances:
                self._unsettled.pop(instance, None)

    def compare_soon(self) -> None:
        """Have all studies compared with the journal at the next poll: something may have been missed."""
        self._compare_at = 0.0
        self._has_missed_deletions = self._with_deletions

    def deleted(self, instance: str) -> None:
        """Take it that an instance was deleted in Orthanc."""
        if self._with_deletions:
            self._journal.notice_instance(instance)

    def is_continued(self) -> bool:
        """Return whether Orthanc's feed is the one that was followed: whether what isn't in Orthanc was deleted there.

        An Orthanc that has lost its index, or has that of yesterday, begins anew at an earlier place. When it has come beyond the
        former one, what it has before that place is newer than what was read there.
        """
        place = self._journal.place()
        if not 0 < place <= self._orthanc.last_change():
            return False
        newest = self._newest(place)
        if not self._journal.newest():
            # The journal is of a version that didn't write it down.
            self._journal.notice([], place, newest)
        return newest <= self._journal.newest()

    def _newest(self, place: int) -> str:
        """Return a date before which all happened that the feed has up to a place."""
        dates = self._orthanc.changes(0, 1).dates | self._orthanc.changes(max(place - _LOOKED_BACK, 0), _LOOKED_BACK).dates
        return max((date for seq, date in dates.items() if seq <= place), default="")

    def poll(self) -> float:
        """Notice what there is to notice; return after how many seconds to poll again. Raises OrthancAwayError."""
        if time.monotonic() >= self._compare_at:
            self._compare()
            self._compare_at = time.monotonic() + self._compare_seconds
        while not self._read_page():
            pass
        self._notice_forgotten()
        return min(_WATCHING_SECONDS, self._poll_seconds) if self._unsettled else self._poll_seconds

    def _read_page(self) -> bool:
        place = self._journal.place()
        page = self._orthanc.changes(place)
        now = time.monotonic()
        stable = []
        with self._turn:
            for kind, resource in page.events:
                if kind == "NewInstance":
                    # A later version of the same instance goes to the end of the line.
                    self._unsettled.pop(resource, None)
                    self._unsettled[resource] = now
                elif kind == "StableStudy":
                    stable.append(resource)
        if stable or page.place != place:
            self._journal.notice(stable, page.place, max(page.dates.values(), default=""))
        return page.is_last

    def _notice_forgotten(self) -> None:
        with self._turn:
            oldest = next(iter(self._unsettled.items()), None)
        if oldest is None or time.monotonic() - oldest[1] < self._patience:
            return
        instance = oldest[0]
        try:
            study = self._orthanc.study_of(instance)
        except GoneError:
            self.settle([instance])
            return
        # A study that is still coming says so of itself when it is worked on, and is waited for there.
        self.settle([entry.id for entry in self._orthanc.instances(study)])
        self._journal.notice([study])

    def _compare(self) -> None:
        is_continued = self._with_deletions and self.is_continued()
        # From the start there is nothing in the feed that the comparison doesn't find. A feed that ends before its place is another
        # Orthanc's, or that of one which has lost its index.
        last, place = self._orthanc.last_change(), self._journal.place()
        is_anew = not is_continued if self._with_deletions else last < place
        if self._with_deletions and is_anew:
            if place:
                _LOG.error("Orthanc isn't the one that was followed, or has lost its index: what servers have of it stays there")
            self._journal.forget_held()
        if not place or is_anew:
            self._journal.notice([], last, self._newest(last))
        found: set[str] = set()
        for page in self._orthanc.studies():
            found.update(study.id for study in page)
            new = [study.id for study in page if self._journal.is_new(study.id, study.last_update)]
            if new:
                self._journal.notice(new)
                _LOG.info("compared: %d studies to look at", len(new))
        if is_continued:
            self._notice_deletions(found)
        else:
            for study in self._journal.studies() if self._with_deletions else self._journal.done():
                if study not in found:
                    self._forget_if_gone(study)

    def _notice_deletions(self, found: set[str]) -> None:
        known = self._journal.studies()
        gone = [study for study in known if study not in found]
        if self._has_missed_deletions and sum(known.values()) != self._orthanc.instance_count():
            for study in known.keys() & found:
                with contextlib.suppress(GoneError):
                    if self._orthanc.instance_count_of(study) < known[study]:
                        gone.append(study)
        self._has_missed_deletions = False
        self._journal.notice(gone)

    def _forget_if_gone(self, study: str) -> None:
        try:
            self._orthanc.study(study)
        except GoneError:
            self._journal.forget(study)
