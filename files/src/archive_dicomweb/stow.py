"""STOW-RS (PS3.18 10.5): each instance of a request goes to Orthanc by its REST API, as soon as it has come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
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
from archive_dicomweb.uploads import Answer, Uploads

_LOG = logging.getLogger("archive_dicomweb")
# Instances that are on their way to Orthanc at a time, each in a thread that waits for its answer.
_MOST_AT_ONCE = 16


class Storing:
    """Takes requests of at most `most` bytes."""

    def __init__(self, uploads: Uploads, archive: Archive, files: Files, most: int, no_space_file: Path | None) -> None:
        self._uploads = uploads
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
            received = await receive(request, directory, self._most, partial(self._take, study))
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

    async def _take(self, study: str, each: Given) -> None:
        is_there = await asyncio.get_running_loop().run_in_executor(self._threads, self._taken, study, each)
        if is_there and not await self._is_same(each):
            each.refuse(DUPLICATE, "the archive has another instance under its UID, and doesn't replace it", _LOG)

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

    def _taken(self, study: str, each: Given) -> bool:
        """Have Orthanc store an instance, if it is one; return whether Orthanc says that it has it already."""
        identify([each], study, _LOG)
        return each.status is None and self._send(each)

    def _send(self, each: Given) -> bool:
        try:
            answer = self._uploads.send(each.path)
        except (OSError, HTTPException) as error:
            each.refuse(REFUSED, f"Orthanc can't be reached: {error or type(error).__name__}", _LOG)
            # Whatever follows would wait for it in vain, too.
            raise RequestError(503, "The archive can't be reached: what follows isn't stored, try again later.") from None
        said = _said(answer)
        if answer.status == 200 and said.get("Status") in ("Success", "AlreadyStored"):
            each.status = 0
            return said["Status"] == "AlreadyStored"
        if answer.status == 200:
            each.refuse(REFUSED, f"Orthanc doesn't take it: {said.get('Status', 'no reason given')}", _LOG)
        else:
            reasons = {400: CANNOT_UNDERSTAND, 404: MISMATCH}
            why = f"Orthanc answers {answer.status}: {said.get('Details') or said.get('Message') or 'no reason given'}"
            each.refuse(reasons.get(answer.status, REFUSED), why, _LOG)
        return False


def _said(answer: Answer) -> dict[str, str]:
    with contextlib.suppress(ValueError):
        said = json.loads(answer.content)
        return said if isinstance(said, dict) else {}
    return {}
