"""Orthanc's archive as where instances are, for WADO-RS and WADO-URI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from dicomweb.errors import LostError, RequestError
from dicomweb.instances import CutError, Instance, Scope, Source
from dimse.part10 import read_syntax

from archive_dicomweb.files import Files
from archive_dicomweb.index import Index, StoredFile


class Archive:
    """The instances that Orthanc has."""

    def __init__(self, index: Index, files: Files) -> None:
        self._index = index
        self._files = files

    def new_file(self) -> Path:
        """Return a name for a new file."""
        return self._files.new()

    @contextlib.asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[Source]:
        """Have the instances of a scope; raise RequestError (404) where there are none."""
        found = await self._index.files(scope)
        if not found:
            raise RequestError(404, f"There is nothing of {scope}.")
        source = _StorageSource(self._files, scope, found)
        try:
            yield source
        finally:
            await asyncio.to_thread(source.close)


class _StorageSource(Source):
    """Instances in Orthanc's storage. What isn't a file there is fetched when it is asked for."""

    def __init__(self, files: Files, scope: Scope, found: list[StoredFile]) -> None:
        super().__init__(scope, [_instance(files, file) for file in found])
        self._files = files
        self._identifiers = {file.uuid: file.identifier for file in found}
        self._compressed = {file.uuid for file in found if file.is_compressed}
        self._fetched: Instance | None = None
        self._stored_at = Path()

    async def each(self, scope: Scope) -> AsyncGenerator[Instance]:
        """Yield the instances of a part of it."""
        async for instance in super().each(scope):
            if not instance.syntax:
                await self.whole(instance)
                instance.syntax = await asyncio.to_thread(_syntax, instance.path)
            yield instance

    async def content(self, instance: Instance) -> AsyncGenerator[bytes]:
        """Yield an instance's file, a piece at a time; raise CutError where it isn't whole."""
        await self.whole(instance)
        async for piece in super().content(instance):
            yield piece

    async def whole(self, instance: Instance) -> None:
        """Have the instance's file at its path."""
        uuid = instance.path.name
        if uuid not in self._identifiers or (uuid not in self._compressed and instance.path.is_file()):
            return
        # One after the other, so that no more than one of a study is on the disk twice.
        await asyncio.to_thread(self.close)
        self._fetched, self._stored_at = instance, instance.path
        instance.path = self._files.new()
        await self._files.fetch(self._identifiers[uuid], instance.path)
        instance.size = instance.path.stat().st_size

    def stays(self, instance: Instance) -> bool:
        """Return whether its file is Orthanc's own."""
        return instance is not self._fetched

    def close(self) -> None:
        """Remove what was fetched."""
        if self._fetched:
            self._fetched.path.unlink(missing_ok=True)
            self._fetched.path, self._fetched = self._stored_at, None


def _instance(files: Files, file: StoredFile) -> Instance:
    return Instance(files.path(file.uuid), file.study, file.series, file.uid, file.sop_class, file.syntax, file.size, "whole")


def _syntax(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return read_syntax(file)
    except FileNotFoundError:
        raise LostError from None
    except Exception as error:
        raise CutError(f"the file of an instance can't be read ({error})") from None
