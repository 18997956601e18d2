"""Files that are written under a name of their own, before they have their place."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make the names in a directory as durable as the files that bear them; raise OSError where that can't be."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class NewFile:
    """A file that is being written. `drop` removes it; what a crash leaves is for the owner of the directory to remove."""

    def __init__(self, path: Path, mode: int = 0o666) -> None:
        """Make it; raise OSError where it can't be made, or is there already."""
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)

    def write(self, part: bytes | memoryview) -> None:
        """Write all of a part; raise OSError where that can't be."""
        left = memoryview(part)
        while left:
            left = left[os.write(self._handle, left) :]

    def sync(self) -> None:
        """Make what was written durable; raise OSError where that can't be. Nothing more can be written."""
        try:
            os.fsync(self._handle)
        finally:
            self.close()

    def close(self) -> None:
        """Write nothing more."""
        # A number that is free again may be another file's at once.
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def drop(self) -> None:
        """Remove it."""
        self.close()
        self.path.unlink(missing_ok=True)
