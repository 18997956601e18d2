"""Instances in the tree: each written once, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from static_dicomweb.composition import composed, is_composed_of
from static_dicomweb.layout import SHARED_NAME, Layout
from static_dicomweb.render import Rendered

_TRIES = 10


class Store:
    """Writes a number of instances, which have their place after `settle`: synced together, which is faster than one by one."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting: dict[str, list[tuple[Path, Path]]] = {}
        """Directories of each study, and where they belong."""
        self._shared: dict[str, dict[Path, bytes]] = {}
        """What is shared in each study."""
        self._written: dict[Path, Path] = {}
        """Files of what is shared and wasn't there, by where they belong."""

    def add(self, rendered: Rendered) -> None:
        """Write an instance; raise OSError where that can't be."""
        shared = self._shared.setdefault(rendered.study, {})
        new = self._layout.new()
        new.mkdir()
        for name, content in rendered.files.items():
            (new / name).write_bytes(content)
        for name, target in rendered.links.items():
            # From STUDY/SERIES/INSTANCE to what the study shares.
            (new / name).symlink_to(f"../../{SHARED_NAME}/{target}")
        for name, content in rendered.shared.items():
            path = self._layout.shared(rendered.study) / name
            if path not in shared and not path.exists():
                self._write_shared(path, content)
            shared[path] = content
        place = self._layout.instance(rendered.study, rendered.series, rendered.uid)
        self._waiting.setdefault(rendered.study, []).append((new, place))

    def _write_shared(self, path: Path, content: bytes) -> None:
        self._written[path] = self._layout.new()
        self._written[path].write_bytes(content)

    def settle(self) -> set[Path]:
        """Give all their places; return which had been taken meanwhile. Raises OSError where the disk doesn't take them."""
        if not self._waiting:
            return set()
        self._layout.sync()
        taken = set()
        for study, waiting in self._waiting.items():
            # Nobody removes the study, or what its instances share, meanwhile.
            with self._layout.lock(study):
                self._settle_shared(study)
                taken |= {place for new, place in waiting if not _moved(new, place)}
        self._waiting.clear()
        self._shared.clear()
        self._written.clear()
        return taken

    def _settle_shared(self, study: str) -> None:
        lost = [path for path in self._shared[study] if path not in self._written and not path.exists()]
        for path in lost:
            self._write_shared(path, self._shared[study][path])
        if lost:
            self._layout.sync()
        for path in self._shared[study]:
            if new := self._written.get(path):
                _put(new, path)


def _put(new: Path, place: Path) -> None:
    """Give what is new its place, also where its directory is removed just then. Raises OSError where the disk doesn't take it."""
    for left in reversed(range(_TRIES)):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            new.replace(place)
            return
        except FileNotFoundError:
            if not left:
                raise


def _moved(new: Path, place: Path) -> bool:
    """Give a directory its place; return whether that wasn't taken. Raises OSError where the disk doesn't take it."""
    try:
        _put(new, place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(new)
        return False
    return True


def dicom(directory: Path) -> Iterator[bytes]:
    """Yield an instance's DICOM file. Raises OSError where it isn't there."""
    whole = directory / "dicom.dcm"
    with contextlib.suppress(FileNotFoundError), whole.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
        return
    yield from composed(directory / "dicom.ssi", directory)


def has(directory: Path, content: bytes) -> bool | None:
    """Return whether an instance's directory has just this file; None where there is no such directory."""
    if not os.path.isdir(directory):
        return None
    try:
        return is_composed_of(content, dicom(directory))
    except FileNotFoundError:
        if os.path.isdir(directory):
            raise
        # It was removed meanwhile.
        return None
