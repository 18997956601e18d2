"""The tree of files: PatientID/StudyInstanceUID/SeriesInstanceUID/SOPInstanceUID.dcm."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline_monitor.names import component

# No value of DICOM makes a name that begins with a dot.
_INCOMING = ".incoming"
_REPLACED = ".replaced"


class Tree:
    """A directory whose files are whole, whatever happens: they are written under another name, synced, and renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / _INCOMING
        self._numbers = itertools.count()
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)

    def path(self, patient_id: str, study_uid: str, series_uid: str, uid: str) -> Path:
        """Return where an instance belongs."""
        return self.root.joinpath(component(patient_id), component(study_uid), component(series_uid), f"{component(uid)}.dcm")

    def write(self, parts: Sequence[bytes | memoryview]) -> Path:
        """Write a new file, not yet in the tree and not yet synced; raise OSError where that can't be, and leave nothing."""
        path = self._incoming / f"{next(self._numbers)}.dcm"
        try:
            with path.open("xb", buffering=0) as file:
                for part in parts:
                    left = memoryview(part)
                    while left:
                        left = left[file.write(left) :]
        except OSError:
            self.drop(path)
            raise
        return path

    def drop(self, written: Path) -> None:
        """Remove what was written."""
        with contextlib.suppress(FileNotFoundError):
            written.unlink()

    def put(self, written: Path, target: Path) -> bool:
        """Sync what was written and give it its place; return whether another file was there, which is kept in `.replaced`."""
        with written.open("rb") as file:
            os.fsync(file.fileno())
        is_replaced = target.exists() and not filecmp.cmp(written, target, shallow=False)
        if is_replaced:
            self._keep(target)
        try:
            written.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            written.replace(target)
        return is_replaced

    def _keep(self, target: Path) -> None:
        kept = self.root / _REPLACED / target.relative_to(self.root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # No link: the tree may be on a file system of another kind of host.
        number = next(number for number in itertools.count(1) if not kept.with_name(f"{kept.name}.{number}").exists())
        target.replace(kept.with_name(f"{kept.name}.{number}"))

    def sync(self, targets: Iterable[Path]) -> None:
        """Make the names of files as durable as the files themselves."""
        directories = {parent for target in targets for parent in target.parents if parent.is_relative_to(self.root)}
        for directory in directories:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def free_bytes(self) -> int:
        """Return how much may still be written."""
        return shutil.disk_usage(self.root).free
