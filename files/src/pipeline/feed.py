"""Learns from Orthanc which studies there is something to do for."""

from __future__ import annotations

import logging
import threading
import time

from pipeline.journal import Journal
from pipeline.orthanc import GoneError, Orthanc

_LOG = logging.getLogger("pipeline.feed")
# While instances come, their study may be stable at any moment.
_WATCHING_SECONDS = 0.1


class ChangeFeed:
    """Follows Orthanc's change feed into a journal.

    A study is noticed when Orthanc calls it stable. A restart of Orthanc forgets which studies were about to be so: an instance
    that came and whose study was not called stable in time has its study noticed all the same. What else may have been missed, in a
    time when this service or Orthanc was down, is found by comparing all studies with the journal.
    """

    def __init__(
        self, orthanc: Orthanc, journal: Journal, poll_seconds: float, stable_seconds: float, compare_seconds: float
    ) -> None:
        self._orthanc = orthanc
        self._journal = journal
        self._poll_seconds = poll_seconds
        # Orthanc looks for stable studies about once a second.
        self._patience = stable_seconds + 5
        self._compare_seconds = compare_seconds
        self._compare_at = 0.0
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
            self._journal.notice(stable, page.place)
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
        # From the start there is nothing in the feed that the comparison doesn't find. A feed that ends before its place is another
        # Orthanc's, or that of one which has lost its index.
        last, place = self._orthanc.last_change(), self._journal.place()
        if not place or last < place:
            self._journal.notice([], last)
        found: set[str] = set()
        for page in self._orthanc.studies():
            found.update(study.id for study in page)
            new = [study.id for study in page if self._journal.is_new(study.id, study.last_update)]
            if new:
                self._journal.notice(new)
                _LOG.info("compared: %d studies to look at", len(new))
        for study in self._journal.done():
            if study not in found:
                self._forget_if_gone(study)

    def _forget_if_gone(self, study: str) -> None:
        try:
            self._orthanc.study(study)
        except GoneError:
            self._journal.forget(study)
