"""Where everything is in the tree, and how files get there whole.

    instances/STUDY/SERIES/INSTANCE/    what was rendered of an instance; never changed
    instances/STUDY/shared/HASH         what several instances of a study have in common, by its content
    versions/STUDY/HASH/                documents about the whole study, by their content
    studies/STUDY                       a link to the version that is current
    incoming/                           what isn't whole yet
    gone/                               what is being removed

Nothing in it is changed once it has its name: a link is renamed over the former one, and who reads has the one or the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from service.directory import locked

from static_dicomweb import composition

SHARED_NAME = "shared"
_ADDRESS = ".static-dicomweb"
_LIBC = ctypes.CDLL(None, use_errno=True)


def address(*names: str) -> str:
    """Return the address that compositions have for what is below `instances`."""
    return "/".join(("", _ADDRESS, "instances", *names))


def directories(path: Path) -> Iterator[Path]:
    """Yield the directories in a directory, none where it isn't there."""
    with contextlib.suppress(FileNotFoundError):
        yield from (Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))


class Layout:
    """The directories of a tree."""

    def __init__(self, root: Path) -> None:
        """Make what is missing of them. Raises OSError where that can't be."""
        self.root = root
        self.instances, self.versions, self.studies = (root / name for name in ("instances", "versions", "studies"))
        self._incoming, self._gone, self._locks = (root / name for name in ("incoming", "gone", "locks"))
        for directory in (self.instances, self.versions, self.studies, self._incoming, self._gone, self._locks):
            directory.mkdir(parents=True, exist_ok=True)
        # The body of one part that an instance's file is (PS3.18 8.6.1), the same for all of them.
        part = composition.parts([("application/dicom", "$static_instance/dicom")])
        if not (root / "instance.ssi").exists():
            (root / "instance.ssi").write_bytes(part)
        with contextlib.suppress(FileExistsError):
            # What compositions name is found below the tree's root under the very name that it has for nginx.
            (root / _ADDRESS).symlink_to(".")
        self._numbers = itertools.count()
        own = self._incoming / f"{os.getpid()}-{time.time_ns()}"
        own.mkdir()
        self._own = locked(own, fcntl.LOCK_SH)

    def close(self) -> None:
        """Forget what isn't whole."""
        if self._own:
            self._own.remove()

    def instance(self, study: str, series: str, uid: str) -> Path:
        """Return where an instance belongs."""
        return self.instances / study / series / uid

    def shared(self, study: str) -> Path:
        """Return where a study's instances have what they have in common."""
        return self.instances / study / SHARED_NAME

    def series(self, study: str) -> Iterator[Path]:
        """Yield the directories of a study's series."""
        return (path for path in directories(self.instances / study) if path.name != SHARED_NAME)

    def withdraw(self, study: str) -> None:
        """Have no documents of a study."""
        (self.studies / study).unlink(missing_ok=True)
        self.remove(self.versions / study)

    def new(self) -> Path:
        """Return a path for what isn't whole yet."""
        assert self._own
        return self._own.path / str(next(self._numbers))

    def sync(self) -> None:
        """Make all that was written durable; raise OSError where that can't be."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _LIBC.syncfs(handle):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def lock(self, study: str) -> Iterator[None]:
        """Have a study to oneself, among all processes."""
        handle = os.open(self._locks / study, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def remove(self, path: Path) -> None:
        """Remove a directory: at once from where it is, then from the disk."""
        target = self._gone / f"{os.getpid()}-{time.time_ns()}"
        with contextlib.suppress(FileNotFoundError):
            path.rename(target)
            shutil.rmtree(target)

    def tidy(self) -> None:
        """Remove what processes left that have ended."""
        for path in [*self._incoming.iterdir(), *self._gone.iterdir()]:
            left = locked(path, fcntl.LOCK_EX)
            if left:
                left.remove()
