"""Brings what the storage has of a study and the tree lacks into the tree."""

from __future__ import annotations

import logging
import time

from pipeline.engine import FailedError, PostponedError
from pipeline.feed import ChangeFeed
from pipeline.journal import Due, Held, Journal
from pipeline.orthanc import GoneError, Orthanc, Study

from pipeline_monitor.receiver import Receiver
from pipeline_monitor.retrieve import Retriever
from pipeline_monitor.settings import Settings
from pipeline_monitor.tree import Tree

_LOG = logging.getLogger("pipeline.extract")
_DISK = "disk"
_FULL_DISK_SECONDS = 5


class Extractor:
    """Extracts studies. A version of an instance that is durable in the tree is written into the journal."""

    def __init__(
        self,
        storage: Orthanc,
        journal: Journal,
        feed: ChangeFeed,
        tree: Tree,
        receiver: Receiver,
        retriever: Retriever,
        settings: Settings,
    ) -> None:
        self._storage = storage
        self._journal = journal
        self._feed = feed
        self._tree = tree
        self._receiver = receiver
        self._retriever = retriever
        self._settings = settings

    def work(self, due: Due, study: Study) -> None:
        """Extract what the tree lacks. Raises PostponedError where the disk is full, FailedError where something is missing."""
        instances = self._storage.instances(study.id)
        self._feed.settle([instance.id for instance in instances])
        self._journal.know(study.id, study.uid, study.last_update, len(instances))
        held = self._journal.held(study.id, _DISK)
        missing = [instance for instance in instances if held.get(instance.id) != instance.file]
        if not missing:
            return
        needed = sum(instance.size for instance in missing) + self._settings.reserve_megabytes * 1_000_000
        if self._tree.free_bytes() < needed:
            raise PostponedError(_FULL_DISK_SECONDS, f"{self._tree.root} has no room: {needed // 1_000_000} MB are needed")
        began = time.monotonic()
        expected = self._receiver.expect(study.uid)
        try:
            problem = self._retriever.retrieve(study, missing, len(missing) == len(instances))
        finally:
            self._receiver.finish(expected)
        if expected.disk_problem:
            raise PostponedError(_FULL_DISK_SECONDS, f"{self._tree.root}: {expected.disk_problem}")
        came = expected.came(study.patient_id)
        written = {instance.id: instance.file for instance in missing if (instance.series_uid, instance.uid) in came}
        self._write_down(study, written)
        _LOG.info(
            "study %s extracted %d of %d instances in %.2f s", study.uid, len(written), len(missing), time.monotonic() - began
        )
        if len(written) < len(missing):
            first = next(instance.uid for instance in missing if instance.id not in written)
            reason = expected.problems.get(first) or problem or "the storage said that it was sent"
            raise FailedError(f"{len(missing) - len(written)} of {len(instances)} instances didn't come, such as {first}: {reason}")

    def _write_down(self, study: Study, came: dict[str, str]) -> None:
        """Write down what came, where it is still what the storage has: what was overwritten meanwhile may be one or the other."""
        now = {instance.id: instance.file for instance in self._storage.instances(study.id)}
        self._journal.hold(study.id, _DISK, (Held(*one) for one in came.items() if now.get(one[0]) == one[1]))
        if any(now.get(instance) != file for instance, file in came.items()):
            self._journal.notice([study.id])

    def let_go(self) -> int:
        """Delete from the storage what has been in the tree for long enough; return how many instances."""
        if self._settings.delete_after_days < 0:
            return 0
        count = 0
        for identifier in self._journal.done(before=time.time() - self._settings.delete_after_days * 86400):
            try:
                study = self._storage.study(identifier)
                held = self._journal.held(identifier, _DISK)
                for instance in self._storage.instances(identifier):
                    if held.get(instance.id) == instance.file == self._storage.instance_file(instance.id):
                        self._storage.delete_instance(instance.id)
                        count += 1
                _LOG.info("study %s deleted from the storage", study.uid)
            except GoneError:
                self._journal.forget(identifier)
        return count
