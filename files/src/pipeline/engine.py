"""Works on studies, several at a time, each until there is nothing left to do for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipeline.feed import ChangeFeed
from pipeline.journal import Due, Journal
from pipeline.orthanc import GoneError, OrthancAwayError, Study

_LOG = logging.getLogger("pipeline")
# No study waits for longer than the longest wait and this; one that seems to has its time from another clock.
_CLOCK_SECONDS = 120.0


class FailedError(Exception):
    """The study could not be worked on to its end; the text says why, for whoever has to mend it. It counts as an attempt."""


class PostponedError(Exception):
    """The study has to wait for something that is not its fault: it does not count as an attempt."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


class Engine:
    """Takes from the journal what is due and gives it to `work`, which raises FailedError, PostponedError or any error of Orthanc.

    A study that fails is tried again after growing waits, from one second up to `longest_wait`; after `most_attempts` it is set
    aside, or never where that is 0.
    """

    def __init__(
        self,
        orthanc_study: Callable[[str], Study],
        journal: Journal,
        feed: ChangeFeed,
        work: Callable[[Due, Study], None],
        at_a_time: int,
        most_attempts: int,
        longest_wait: float,
        gone: Callable[[Due], None] = lambda _: None,
    ) -> None:
        self._study = orthanc_study
        self._journal = journal
        self._feed = feed
        self._work = work
        self._gone = gone
        self._at_a_time = at_a_time
        self._most_attempts = most_attempts
        self._longest_wait = longest_wait
        self._pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="study")
        self._turn = threading.Lock()
        self._active: set[str] = set()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._feeder = threading.Thread(target=self._follow, name="feed", daemon=True)
        self._giver = threading.Thread(target=self._give, name="engine", daemon=True)
        self.away = ""
        """Why Orthanc can't be followed now, or nothing."""

    def start(self) -> None:
        """Start following and working."""
        self._feeder.start()
        self._giver.start()

    def stop(self) -> None:
        """Begin nothing more. What is being worked on is left as it is: the journal knows."""
        self._stopped.set()
        self._wake.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look at once what is due."""
        self._wake.set()

    def every(self, seconds: float, work: Callable[[], object]) -> None:
        """Have something done now and then, until it is all stopped."""

        def repeat() -> None:
            while not self._stopped.is_set():
                try:
                    work()
                except OrthancAwayError as error:
                    _LOG.warning("not now: %s", error)
                except Exception:
                    _LOG.exception("not now")
                self._stopped.wait(seconds)

        threading.Thread(target=repeat, name="now-and-then", daemon=True).start()

    def _follow(self) -> None:
        wait = 1.0
        while not self._stopped.wait(wait if self.away else 0):
            try:
                pause = self._feed.poll()
                if count := self._journal.bring_forward(self._longest_wait + _CLOCK_SECONDS):
                    _LOG.warning("the clock was set back: %d studies that waited for a time far off are worked on now", count)
            except (OrthancAwayError, GoneError) as error:
                if not self.away:
                    _LOG.warning("can't follow: %s", error)
                self.away = str(error)
                wait = min(wait * 2, 5.0)
                # It may have been restarted, and have forgotten what was about to be stable.
                self._feed.compare_soon()
                continue
            except Exception:
                _LOG.exception("the change feed can't be followed")
                self.away = "an error of this service: its log has it"
                continue
            if self.away:
                _LOG.warning("following again")
            self.away, wait = "", 1.0
            self._wake.set()
            self._stopped.wait(pause)

    def _give(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            with self._turn:
                active = set(self._active)
            for study in self._journal.due(self._at_a_time - len(active), active) if len(active) < self._at_a_time else []:
                with self._turn:
                    self._active.add(study.id)
                self._pool.submit(self._run, study)
            self._wake.wait(self._pause())

    def _pause(self) -> float:
        """Return the seconds until the next study is due: at most a second, so that a clock that is set does no harm."""
        with self._turn:
            active = set(self._active)
        due = None if len(active) >= self._at_a_time else self._journal.next_due(active)
        return 1.0 if due is None else min(max(due - time.time(), 0.0), 1.0)

    def _run(self, due: Due) -> None:
        try:
            self._attempt(due)
        except Exception:
            # Not even the journal could be written: it is tried again from what the journal has.
            _LOG.exception("study %s", due.id)
            self._stopped.wait(1)
        finally:
            with self._turn:
                self._active.discard(due.id)
            self._wake.set()

    def _attempt(self, due: Due) -> None:
        name = due.id
        try:
            try:
                study = self._study(due.id)
                name = study.uid
                if not study.is_stable:
                    raise PostponedError(0.5)
                self._work(due, study)
            except GoneError:
                self._gone(due)
                self._journal.forget(due.id, due.notices)
                _LOG.warning("study %s is no longer there", name)
            else:
                self._journal.finish(due)
        except PostponedError as error:
            self._journal.postpone(due, time.time() + error.seconds, error.reason, due.attempts)
            if error.reason:
                _LOG.info("study %s waits: %s", name, error.reason)
        except OrthancAwayError as error:
            self._journal.postpone(due, time.time() + 2, str(error), due.attempts)
            _LOG.warning("study %s waits: %s", name, error)
        except FailedError as error:
            self._fail(due, name, str(error))
        except Exception as error:
            _LOG.exception("study %s", name)
            self._fail(due, name, f"an error of this service, {type(error).__name__}: its log has it")

    def _fail(self, due: Due, name: str, reason: str) -> None:
        attempts = due.attempts + 1
        if 0 < self._most_attempts <= attempts:
            self._journal.set_aside(due, reason)
            _LOG.error("study %s set aside after %d attempts: %s", name, attempts, reason)
            return
        wait = min(2.0 ** min(due.attempts, 30), self._longest_wait)
        self._journal.postpone(due, time.time() + wait, reason, attempts)
        _LOG.warning("study %s failed, attempt %d, again in %.0f s: %s", name, attempts, wait, reason)
