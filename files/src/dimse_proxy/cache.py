"""Instances that were fetched, kept for a while: each retrieval in a directory of its own, trusted only when whole.

Several processes may share it. A directory is filled in `incoming`, then given its name at once, and not changed any more. Who
reads from one holds a lock on it; who would remove it needs that lock alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from dicomweb.instances import Instance, Scope
from service.directory import Directory, locked

_INDEX = "index.json"
_numbers = itertools.count()


class Cache:
    """Below `root`: `incoming` for what comes, `whole` for what was fetched whole, `gone` for what is being removed."""

    def __init__(self, root: Path, retention_seconds: float, most_bytes: int, *, is_kept: bool) -> None:
        """Without `is_kept`, nothing is found and nothing stays. Raises OSError where `root` can't be written."""
        self._retention = retention_seconds
        self._most = most_bytes
        self._is_kept = is_kept
        self._incoming, self._whole, self._gone = (root / name for name in ("incoming", "whole", "gone"))
        for directory in (self._incoming, self._whole, self._gone):
            directory.mkdir(parents=True, exist_ok=True)

    def _new_name(self) -> str:
        return f"{os.getpid()}-{time.time_ns()}-{next(_numbers)}"

    def _path(self, scope: Scope) -> Path:
        return self._whole / "_".join(filter(None, (scope.study, scope.series, scope.instance)))

    def new(self) -> Directory:
        """Return an empty directory for what comes."""
        path = self._incoming / self._new_name()
        path.mkdir()
        made = locked(path, fcntl.LOCK_SH)
        assert made
        return made

    def keep(self, scope: Scope, instances: list[Instance]) -> None:
        """Keep what came whole, in place of what was kept of it before. Raises OSError where the disk doesn't take it."""
        if not self._is_kept:
            return
        # The same files under another name: who reads them now goes on where he is.
        made = self.new()
        try:
            for instance in instances:
                (made.path / instance.path.name).hardlink_to(instance.path)
            rows = [asdict(instance) | {"path": instance.path.name} for instance in instances]
            (made.path / _INDEX).write_text(json.dumps(rows))
        except OSError:
            made.remove()
            raise
        target = self._path(scope)
        with contextlib.suppress(OSError):
            target.rename(self._gone / self._new_name())
        try:
            made.path.rename(target)
            made.close()
        except OSError:
            # Another process was faster, and what it has is as good.
            made.remove()

    def find(self, scope: Scope) -> tuple[Directory, list[Instance]] | None:
        """Return what is kept of a scope, in a directory that stays until it is closed; None where it isn't all there."""
        if not self._is_kept:
            return None
        for wider in dict.fromkeys((Scope(scope.study), Scope(scope.study, scope.series), scope)):
            directory = locked(self._path(wider), fcntl.LOCK_SH)
            if not directory:
                continue
            try:
                index = directory.path / _INDEX
                if time.time() - index.stat().st_mtime < self._retention:
                    found = [Instance(**row | {"path": directory.path / row["path"]}) for row in json.loads(index.read_text())]
                    chosen = [instance for instance in found if scope.covers(instance.scope)]
                    if chosen and all(instance.path.stat().st_size == instance.size for instance in chosen):
                        # The last one that was used is the last one to go.
                        os.utime(directory.path)
                        return directory, chosen
            except (OSError, ValueError, TypeError):
                pass
            directory.close()
        return None

    def tidy(self) -> int:
        """Remove what is too old, what is too much, and what nobody finished; return how many directories."""
        removed = 0
        entries = []
        for path in self._whole.iterdir():
            with contextlib.suppress(OSError):
                size = sum(entry.stat().st_size for entry in os.scandir(path))
                entries.append((path.stat().st_mtime, (path / _INDEX).stat().st_mtime, size, path))
        total = sum(size for _, _, size, _ in entries)
        for _, fetched, size, path in sorted(entries):
            if total > self._most or time.time() - fetched >= self._retention:
                total -= size
                removed += self._remove(path)
        for path in [*self._incoming.iterdir(), *self._gone.iterdir()]:
            removed += self._remove(path)
        return removed

    def _remove(self, path: Path) -> int:
        directory = locked(path, fcntl.LOCK_EX)
        if not directory:
            return 0
        target = self._gone / self._new_name()
        with contextlib.suppress(OSError):
            path.rename(target)
            directory.path = target
        directory.remove()
        return 1
