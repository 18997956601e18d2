"""Brings the tree into buckets after it is written here: what one lacks is seen by comparing, so no crash or outage loses it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from static_dicomweb.layout import Layout, directories

if TYPE_CHECKING:
    from static_dicomweb.bucket import Bucket

_LOG = logging.getLogger("static_dicomweb")
_LOOK_SECONDS = 2.0
_LONGEST_WAIT = 60.0


class UnreachableError(Exception):
    """What was to be written isn't all there; says why."""


class Sync:
    """One tree, one bucket. What was brought there of each study is written down in `synced`."""

    def __init__(self, layout: Layout, bucket: Bucket) -> None:
        self.address = bucket.address
        self._layout = layout
        self._bucket = bucket
        self._name = hashlib.sha256(bucket.address.encode()).hexdigest()[:16]
        self._synced = layout.root / "synced" / self._name
        self._synced.mkdir(parents=True, exist_ok=True)
        self._versions: dict[str, str] = {}
        """Which version of each study is known to be there: so many notes aren't read at every look."""
        self.problems: dict[str, str] = {}
        """Studies that couldn't be brought, and why."""

    def once(self) -> int:
        """Bring what the bucket lacks, and remove there what is gone here; return how many studies changed there."""
        changed = 0
        self.problems.clear()
        # Two processes that bring the same would only do it twice.
        with self._layout.lock(f"sync-{self._name}"):
            here = {path.name: os.readlink(path) for path in self._layout.studies.iterdir() if path.is_symlink()}
            there = {path.name for path in self._synced.iterdir() if not path.name.endswith(".new")}
            for study in sorted(here.keys() | there):
                if study in here and self._versions.get(study) == here[study]:
                    continue
                try:
                    changed += self._bring(study, here.get(study))
                except (UnreachableError, OSError) as error:
                    self.problems[study] = str(error)
        return changed

    def _bring(self, study: str, version: str | None) -> bool:
        path = self._synced / study
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"version": None, "instances": []}
        if version is None:
            self._versions.pop(study, None)
        else:
            self._versions[study] = known["version"]
        if known["version"] == version:
            return False
        # Each with the time at which it was written: a UID may come again with another content. Notes of before are without.
        former = {(series, uid): (*written, None)[0] for series, uid, *written in known["instances"]}
        present: dict[tuple[str, str], int] = {}
        if version:
            present = {
                (series.name, each.name): each.stat().st_mtime_ns
                for series in self._layout.series(study)
                for each in directories(series)
            }
        new = sorted(name for name, written in present.items() if former.get(name, 0) not in (written, None))
        gone = sorted(former.keys() - present.keys())
        # What it had by other frames and values isn't overwritten by what it has now.
        self._bucket.remove_instances(study, [name for name in new if name in former])
        self._bucket.put_instances(self._layout, study, new)
        # Documents first: nobody is led to what is no longer there.
        self._bucket.put_study(self._layout, study, {uid for _, uid in gone})
        self._bucket.remove_instances(study, gone)
        if version is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, {"version": version, "instances": sorted((*name, written) for name, written in present.items())})
            self._versions[study] = version
        _LOG.info("study %s: %d instances brought to %s, %d removed", study, len(new), self._bucket.address, len(gone))
        return True


def _write(path: Path, content: dict[str, Any]) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content))
    new.replace(path)


def follow(syncs: list[Sync]) -> None:
    """Bring what changes, without end; what fails is tried again, after growing waits."""
    wait = _LOOK_SECONDS
    while True:
        for sync in syncs:
            sync.once()
            for study, problem in sync.problems.items():
                _LOG.warning("study %s: %s; it is tried again", study, problem)
        has_failed = any(sync.problems for sync in syncs)
        wait = min(wait * 2, _LONGEST_WAIT) if has_failed else _LOOK_SECONDS
        time.sleep(wait)
