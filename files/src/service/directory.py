"""Directories that several processes share: who uses one holds a lock on it, who would remove it needs that lock alone."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path


class Directory:
    """A directory that this process uses, so that no other removes it."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def close(self) -> None:
        """Use it no longer."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()


def locked(path: Path, how: int) -> Directory | None:
    """Return a directory with its lock, LOCK_SH or LOCK_EX; None where it isn't there or another one has the lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
        # It may have been renamed since.
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return Directory(path, handle)
    except OSError:
        pass
    os.close(handle)
    return None
