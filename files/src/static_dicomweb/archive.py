"""The tree as where instances are, for what nginx doesn't answer from its files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path

from dicomweb.errors import LostError, RequestError
from dicomweb.instances import Instance, Scope, Source
from dimse.part10 import read_syntax

from static_dicomweb.layout import Layout, directories
from static_dicomweb.store import dicom


class Archive:
    """The published instances of a tree."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def new_file(self) -> Path:
        """Return a name for a new file."""
        return self._layout.new()

    @contextlib.asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[Source]:
        """Have the instances of a scope; raise RequestError (404) where there are none."""
        instances = await asyncio.to_thread(self._found, scope)
        if not instances:
            raise RequestError(404, f"There is nothing of {scope}.")
        source = _TreeSource(self._layout, scope, instances)
        try:
            yield source
        finally:
            await asyncio.to_thread(source.close)

    def _found(self, scope: Scope) -> list[Instance]:
        if not (self._layout.studies / scope.study).exists():
            return []
        study = self._layout.instances / scope.study
        found: list[Instance] = []
        for series in [study / scope.series] if scope.series else sorted(self._layout.series(scope.study)):
            listed = [series / scope.instance] if scope.instance else sorted(directories(series))
            found.extend(_instance(directory) for directory in listed if directory.is_dir())
        return found


def _instance(directory: Path) -> Instance:
    """Return an instance of the tree, whose path is its directory until the file is put together."""
    study, series, uid = directory.parts[-3:]
    return Instance(directory, study, series, uid, "", stored_syntax(directory), 0, "whole")


def stored_syntax(directory: Path) -> str:
    """Return the transfer syntax of an instance's file; raise RequestError (500) where the tree has only a part of it."""
    for name in ("head", "dicom.dcm"):
        with contextlib.suppress(FileNotFoundError), (directory / name).open("rb") as file:
            return read_syntax(file)
    raise LostError(500, f"The tree has only a part of the instance {directory.name}: render it again.")


def _pieces(directory: Path) -> Iterator[bytes]:
    """Yield an instance's file; raise LostError where the tree has it no longer."""
    try:
        yield from dicom(directory)
    except FileNotFoundError:
        raise LostError(502, f"The tree has only a part of the instance {directory.name}: render it again.") from None


class _TreeSource(Source):
    """Instances whose files are put together when they are asked for."""

    def __init__(self, layout: Layout, scope: Scope, instances: list[Instance]) -> None:
        super().__init__(scope, instances)
        self._layout = layout
        self._made: list[Path] = []

    async def content(self, instance: Instance) -> AsyncGenerator[bytes]:
        """Yield an instance's file, a piece at a time."""
        if instance.path.is_file():
            async for piece in super().content(instance):
                yield piece
            return
        pieces = _pieces(instance.path)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    async def whole(self, instance: Instance) -> None:
        """Have the instance's file at its path."""
        if instance.path.is_dir():
            instance.path = await asyncio.to_thread(self._composed, instance.path)

    def _composed(self, directory: Path) -> Path:
        if (directory / "dicom.dcm").exists():
            return directory / "dicom.dcm"
        made = self._layout.new()
        self._made.append(made)
        with made.open("wb") as file:
            file.writelines(_pieces(directory))
        return made

    def close(self) -> None:
        """Remove what was put together."""
        for path in self._made:
            path.unlink(missing_ok=True)
