"""The instances' files: in Orthanc's storage, or by its REST API where they aren't files there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
from dicomweb.dataset import Dataset, element, first
from dicomweb.errors import LostError, RequestError
from dicomweb.instances import Scope
from dicomweb.levels import LEVELS, UNIQUE
from dicomweb.model_text import model_text
from dimse.part10 import read_syntax, read_texts_of

from archive_dicomweb.index import StoredFile
from archive_dicomweb.values import is_misread_character_set

# What `new` names, and nobody else.
_NEW = re.compile(r"[0-9a-f]{32}")
_CHARACTER_SET = 0x00080005
# Whether Orthanc misreads an instance's character sets, some 150 bytes each.
_MOST_REMEMBERED = 100_000
_LOG = logging.getLogger("archive_dicomweb")


class Files:
    """Files by their UUID, which names one version of an instance and never changes its content."""

    def __init__(self, storage: Path, work_directory: Path, orthanc: httpx.AsyncClient) -> None:
        self._storage = storage
        self._work_directory = work_directory
        self._orthanc = orthanc
        self._misread: dict[str, bool] = {}

    def path(self, uuid: str) -> Path:
        """Return where Orthanc keeps a file."""
        return self._storage / uuid[:2] / uuid[2:4] / uuid

    def new(self) -> Path:
        """Return a name for a new file."""
        return self._work_directory / secrets.token_hex(16)

    def problem(self) -> str:
        """Return why the storage can't be read, or nothing."""
        try:
            next(self._storage.iterdir(), None)
        except OSError as error:
            return f"Orthanc's storage {self._storage}: {error.strerror}"
        return ""

    def is_stored(self, file: StoredFile) -> bool:
        """Return whether it can be read as it is: not where Orthanc compresses, nor where it stores elsewhere."""
        return not file.is_compressed and self.path(file.uuid).is_file()

    async def fetch(self, identifier: str, target: Path) -> None:
        """Have Orthanc's own answer in a file; raise RequestError (502, 503) where it has none."""
        try:
            async with self._orthanc.stream("GET", f"/instances/{identifier}/file") as answer:
                if answer.status_code != 200:
                    raise LostError(502, "The archive has lost the file of an instance: its log has more.")
                with target.open("wb") as file:
                    async for piece in answer.aiter_bytes():
                        file.write(piece)
        except httpx.HTTPError as error:
            target.unlink(missing_ok=True)
            _LOG.error("Orthanc: %s", error or type(error).__name__)
            raise RequestError(503, "The archive can't be reached: try again later.") from None

    async def attributes(self, files: Sequence[StoredFile]) -> dict[str, Dataset]:
        """Return the attributes of instances by the UUIDs of their files; those that can't be read are left out."""
        made = await asyncio.to_thread(self._stored_attributes, list(files))
        for file in files:
            if file.uuid not in made:
                path = self.new()
                try:
                    await self.fetch(file.identifier, path)
                    made[file.uuid] = await asyncio.to_thread(_model, path)
                except RequestError as error:
                    _LOG.warning("file %s can't be read for a search: %s", file.uuid, error.message)
                finally:
                    path.unlink(missing_ok=True)
        return made

    async def misread(self, files: Sequence[StoredFile]) -> set[str]:
        """Return the UUIDs of those whose character sets Orthanc misreads, of those that are stored as they are."""
        return await asyncio.to_thread(lambda: {file.uuid for file in files if self._is_misread(file)})

    def _is_misread(self, file: StoredFile) -> bool:
        found = self._misread.get(file.uuid)
        if found is None:
            found = self.is_stored(file) and _has_misread_characters(self.path(file.uuid))
            if len(self._misread) >= _MOST_REMEMBERED:
                self._misread.clear()
            self._misread[file.uuid] = found
        return found

    def _stored_attributes(self, files: Iterable[StoredFile]) -> dict[str, Dataset]:
        """Return the same of those that are there as they are."""
        made = {}
        for file in files:
            if self.is_stored(file):
                with contextlib.suppress(RequestError, OSError):
                    made[file.uuid] = _model(self.path(file.uuid))
        return made


def with_addresses(attribute: dict[str, Any], instance: Dataset, base: str) -> dict[str, Any]:
    """Return an attribute of an instance, large values of which have addresses below `base`, as its metadata have them."""
    if attribute["vr"] == "SQ":
        items = [{tag: with_addresses(inner, instance, base) for tag, inner in item.items()} for item in attribute.get("Value", [])]
        return element("SQ", *items)
    if "BulkDataURI" not in attribute:
        return attribute
    uids = [str(first(instance, UNIQUE[level]) or "") for level in LEVELS]
    return attribute | {"BulkDataURI": f"{Scope(*uids).address(base)}/bulkdata{attribute['BulkDataURI']}"}


def forget_unfinished(work_directory: Path) -> None:
    """Remove what a service that was killed has left."""
    for path in work_directory.iterdir():
        if not _NEW.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _has_misread_characters(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_misread_character_set(read_texts_of(file, read_syntax(file), [_CHARACTER_SET])[_CHARACTER_SET])
    except Exception:
        # What can't be read says nothing better than the index.
        return False


def _model(path: Path) -> Dataset:
    made: Dataset = json.loads(model_text(path, ""))
    return made
