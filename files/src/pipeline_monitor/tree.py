"""The tree of files: PatientID/StudyInstanceUID/SeriesInstanceUID/SOPInstanceUID.dcm."""

from __future__ import annotations

import filecmp
import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

from dimse.new_file import NewFile, sync_directory

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

    def new_file(self) -> NewFile:
        """Begin a file that is not in the tree yet; raise OSError where that can't be."""
        return NewFile(self._incoming / f"{next(self._numbers)}.dcm")

    def put(self, file: NewFile, target: Path) -> bool:
        """Sync a file and give it its place; return whether another one was there, which is kept in `.replaced`."""
        file.sync()
        written = file.path
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
            sync_directory(directory)

    def free_bytes(self) -> int:
        """Return how much may still be written."""
        return shutil.disk_usage(self.root).free
