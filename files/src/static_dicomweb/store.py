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


class Store:
    """Writes a number of instances, which have their place after `settle`: synced together, which is faster than one by one."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting: list[tuple[Path, Path]] = []
        """Directories, and where they belong."""
        self._shared: set[Path] = set()
        """What is shared and has its place, or is about to."""

    def add(self, rendered: Rendered) -> None:
        """Write an instance; raise OSError where that can't be."""
        shared = self._layout.shared(rendered.study)
        new = self._layout.new()
        new.mkdir()
        for name, content in rendered.files.items():
            (new / name).write_bytes(content)
        for name, target in rendered.links.items():
            # From STUDY/SERIES/INSTANCE to what the study shares.
            (new / name).symlink_to(f"../../{SHARED_NAME}/{target}")
        for name, content in rendered.shared.items():
            self._share(shared / name, content)
        self._waiting.append((new, self._layout.instance(rendered.study, rendered.series, rendered.uid)))

    def _share(self, path: Path, content: bytes) -> None:
        if path in self._shared:
            return
        self._shared.add(path)
        if path.exists():
            return
        new = self._layout.new()
        new.write_bytes(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._waiting.append((new, path))

    def settle(self) -> set[Path]:
        """Give all their places; return which had been taken meanwhile. Raises OSError where the disk doesn't take them."""
        if not self._waiting:
            return set()
        self._layout.sync()
        taken = set()
        for new, place in self._waiting:
            if new.is_file():
                new.replace(place)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                new.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                taken.add(place)
                shutil.rmtree(new)
        self._waiting.clear()
        return taken


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
    return is_composed_of(content, dicom(directory))
