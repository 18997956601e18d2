"""STOW-RS (PS3.18 10.5): each instance of a request goes to Orthanc by its REST API, as soon as it has come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import httpx
from dicomweb.errors import RequestError
from dicomweb.retrieval_request import checked_uid
from dicomweb.stow import CANNOT_UNDERSTAND, MISMATCH, REFUSED, Given, answered, identify, receive
from service.free_space import check_space, refused
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.files import Files

_LOG = logging.getLogger("archive_dicomweb")
_PIECE_BYTES = 1 << 20


class Storing:
    """Takes requests of at most `most` bytes."""

    def __init__(self, orthanc: httpx.AsyncClient, files: Files, most: int, no_space_file: Path | None) -> None:
        self._orthanc = orthanc
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

    async def _take(self, study: str, each: Given) -> None:
        await asyncio.to_thread(identify, [each], study, _LOG)
        if each.status is None:
            await self._send(each)
        each.path.unlink()

    async def _send(self, each: Given) -> None:
        headers = {"Content-Length": str(each.path.stat().st_size), "Content-Type": "application/dicom"}
        try:
            try:
                answer = await self._orthanc.post("/instances", content=_pieces(each.path), headers=headers)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # Orthanc may close an idle connection just as it is used. What it has taken all the same, it takes again.
                answer = await self._orthanc.post("/instances", content=_pieces(each.path), headers=headers)
        except httpx.HTTPError as error:
            each.refuse(REFUSED, f"Orthanc can't be reached: {error or type(error).__name__}", _LOG)
            # Whatever follows would wait for it in vain, too.
            raise RequestError(503, "The archive can't be reached: what follows isn't stored, try again later.") from None
        said = _said(answer)
        if answer.status_code == 200 and said.get("Status") in ("Success", "AlreadyStored"):
            each.status = 0
        elif answer.status_code == 200:
            each.refuse(REFUSED, f"Orthanc doesn't take it: {said.get('Status', 'no reason given')}", _LOG)
        else:
            reasons = {400: CANNOT_UNDERSTAND, 404: MISMATCH}
            why = f"Orthanc answers {answer.status_code}: {said.get('Details') or said.get('Message') or 'no reason given'}"
            each.refuse(reasons.get(answer.status_code, REFUSED), why, _LOG)


def _said(answer: httpx.Response) -> dict[str, str]:
    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
        said = answer.json()
        return said if isinstance(said, dict) else {}
    return {}


async def _pieces(path: Path) -> AsyncGenerator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
