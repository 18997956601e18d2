"""STOW-RS (PS3.18 10.5): each instance of a request goes to Orthanc by its REST API, as soon as it has come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from functools import partial
from http.client import HTTPException
from pathlib import Path

from dicomweb.errors import RequestError
from dicomweb.instances import Scope
from dicomweb.retrieval_request import checked_uid
from dicomweb.stow import CANNOT_UNDERSTAND, DUPLICATE, MISMATCH, REFUSED, Given, answered, identify, receive
from service.free_space import check_space, refused
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.archive import Archive
from archive_dicomweb.duplicates import is_same_instance
from archive_dicomweb.files import Files
from archive_dicomweb.index import Index
from archive_dicomweb.uploads import Answer, Uploads

_LOG = logging.getLogger("archive_dicomweb")
# Instances that are on their way to Orthanc at a time, each in a thread that waits for its answer.
_MOST_AT_ONCE = 16


class _Found(Enum):
    """Whether the archive has an instance under a UID already."""

    THERE = auto()
    NOT_THERE = auto()
    UNKNOWN = auto()


class Storing:
    """Takes requests of at most `most` bytes."""

    def __init__(
        self, uploads: Uploads, index: Index, archive: Archive, files: Files, most: int, no_space_file: Path | None
    ) -> None:
        self._uploads = uploads
        self._index = index
        self._archive = archive
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, "store")
        self._files = files
        self._most = most
        self._no_space_file = no_space_file

    async def store(self, request: Request) -> Response:
        """Store the instances of a request; answer with what was stored and what was not.

        Raises RequestError: 507 while a file says that there is no space, or where there is none; 503 where the disk fails.
        """
        study = checked_uid(request.path_params["study"]) if "study" in request.path_params else ""
        directory = self._files.new()
        try:
            check_space(self._no_space_file)
            directory.mkdir()
            received = await receive(request, directory, self._most, partial(self._take, study, set()))
        except OSError as error:
            _LOG.error("%s: %s", directory.parent, error.strerror)
            raise refused(error, "There is no space for what was sent: nothing of it is stored.") from None
        finally:
            await asyncio.to_thread(partial(shutil.rmtree, directory, ignore_errors=True))
        return answered(request, received, study)

    def close(self) -> None:
        """End its threads; Orthanc may store what they wait for all the same."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._uploads.close()

    async def _take(self, study: str, known: set[tuple[str, str]], each: Given) -> None:
        """Have an instance stored. The patients and studies that are `known` are those that need no look at the archive."""
        run = partial(asyncio.get_running_loop().run_in_executor, self._threads)
        found = await run(self._taken, study, known, each)
        if found is _Found.UNKNOWN:
            found = _Found.THERE if await self._is_of_others(known, each) else await run(self._send, each)
        if found is _Found.THERE:
            each.status = 0
            if not await self._is_same(each):
                each.refuse(DUPLICATE, "the archive has another instance under its UID, and doesn't replace it", _LOG)

    async def _is_of_others(self, known: set[tuple[str, str]], each: Given) -> bool:
        """Return whether another patient has an instance of these UIDs: of two, an address would tell one alone (PS3.18 10.3)."""
        with contextlib.suppress(RequestError):
            if set(await self._index.patients(each.study)) <= {each.patient.strip()}:
                known.add((each.patient, each.study))
            else:
                return bool(await self._index.identifiers(Scope(each.study, each.series, each.uid)))
        return False

    async def _is_same(self, each: Given) -> bool:
        """Return whether the archive has this instance, or whether that can't be told."""
        scope = Scope(each.study, "", each.uid)
        with contextlib.suppress(RequestError):
            async with self._archive.open(scope) as source:
                # Several patients may have it.
                async for instance in source.each(Scope(each.study)):
                    await source.whole(instance)
                    if await asyncio.to_thread(is_same_instance, instance.path, each.path):
                        return True
                return False
        return True

    def _taken(self, study: str, known: set[tuple[str, str]], each: Given) -> _Found:
        """Have Orthanc store an instance, if it is one, and of what is known."""
        identify([each], study, _LOG)
        if each.status is not None:
            return _Found.NOT_THERE
        return self._send(each) if (each.patient, each.study) in known else _Found.UNKNOWN

    def _send(self, each: Given) -> _Found:
        """Have Orthanc store an instance; return whether Orthanc says that it has it already."""
        try:
            answer = self._uploads.send(each.path)
        except (OSError, HTTPException) as error:
            each.refuse(REFUSED, f"Orthanc can't be reached: {error or type(error).__name__}", _LOG)
            # Whatever follows would wait for it in vain, too.
            raise RequestError(503, "The archive can't be reached: what follows isn't stored, try again later.") from None
        said = _said(answer)
        if answer.status == 200 and said.get("Status") in ("Success", "AlreadyStored"):
            each.status = 0
            return _Found.THERE if said["Status"] == "AlreadyStored" else _Found.NOT_THERE
        if answer.status == 200:
            each.refuse(REFUSED, f"Orthanc doesn't take it: {said.get('Status', 'no reason given')}", _LOG)
        else:
            reasons = {400: CANNOT_UNDERSTAND, 404: MISMATCH}
            why = f"Orthanc answers {answer.status}: {said.get('Details') or said.get('Message') or 'no reason given'}"
            each.refuse(reasons.get(answer.status, REFUSED), why, _LOG)
        return _Found.NOT_THERE


def _said(answer: Answer) -> dict[str, str]:
    with contextlib.suppress(ValueError):
        said = json.loads(answer.content)
        return said if isinstance(said, dict) else {}
    return {}
