"""STOW-RS (PS3.18 10.5): what a request brings, and what its answer says of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimse.part10 import read_syntax, read_texts_of
from service.free_space import refused
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.attributes import is_uid
from dicomweb.dataset import element, values, write_json
from dicomweb.errors import RequestError
from dicomweb.http import RETRY_AFTER, accept_of, public_url, warning_headers
from dicomweb.instances import Scope
from dicomweb.multipart import read_parts
from dicomweb.native_xml import write_xml
from dicomweb.negotiation import DICOM, DICOM_JSON, DICOM_XML, answer_type
from dicomweb.nesting import refuse_deep, refuse_sequences_before

_STUDY, _SERIES, _UID, _CLASS, _PATIENT = _IDENTITY = (0x0020000D, 0x0020000E, 0x00080018, 0x00080016, 0x00100020)
_MOST_INSTANCES = 10_000
# Of what isn't stored, each is told in the log, and costs a stranger six bytes.
_MOST_UNREADABLE = 100

CANNOT_UNDERSTAND, MISMATCH, NOT_SUPPORTED, REFUSED, DUPLICATE = 0xC000, 0xA900, 0x0122, 0xA700, 0x0111
"""Statuses of C-STORE (PS3.4 B.2.3, PS3.7 annex C), which are the reasons that an answer gives (PS3.18 annex I)."""


@dataclass
class Given:
    """A file of a request, and what became of it: a status of C-STORE, None until there is one."""

    path: Path
    """With `receive`'s `take`, another's after that."""
    number: int
    """Of the part, from 1 on."""
    study: str = ""
    series: str = ""
    uid: str = ""
    sop_class: str = ""
    patient: str = ""
    syntax: str = ""
    start: int = 0
    """Where its dataset begins."""
    status: int | None = None

    @property
    def is_stored(self) -> bool:
        """Return whether it is, maybe with a remark."""
        return self.status is not None and (self.status == 0 or self.status >> 12 == 0xB)

    def refuse(self, status: int, why: str, log: logging.Logger) -> None:
        """Have it not stored; the answer has the status alone, the log why."""
        self.status = status
        log.warning("instance %.64s is not stored, status 0x%04X: %s", self.uid or f"of part {self.number}", status, why)


@dataclass
class Received:
    """What a request has brought, and what ended it too soon, if anything did."""

    given: list[Given]
    problem: RequestError | None = None


async def receive(request: Request, directory: Path, most: int, take: Callable[[Given], Awaitable[None]] | None = None) -> Received:
    """Write the files of a request, of `most` bytes at most; where `take` is given, have each taken while the next is read.

    What comes after a problem isn't read. Raises RequestError (400, 413, 415) where nothing came before it.
    """
    answer_type(accept_of(request))
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_long(most)
    received = Received([])
    try:
        await _receive(_parts(request, most), directory, received.given, take)
    except (RequestError, OSError) as problem:
        if not (received.given and take):
            raise
        # What was taken stays: the answer says so.
        received.problem = (
            refused(problem, f"The rest isn't read: {problem.strerror}.") if isinstance(problem, OSError) else problem
        )
    return received


async def _receive(
    parts: AsyncIterator[tuple[str, AsyncGenerator[bytes]]],
    directory: Path,
    given: list[Given],
    take: Callable[[Given], Awaitable[None]] | None,
) -> None:
    async with _Taking(take) as taking:
        async for media_type, content in parts:
            if media_type in (DICOM_JSON, DICOM_XML):
                raise RequestError(415, f"A part is {media_type}: send instances as {DICOM}, each whole.")
            if len(given) == _MOST_INSTANCES:
                raise RequestError(400, f"The body has more than {_MOST_INSTANCES} instances: send the others by another request.")
            # A disk takes its time to make a file, which one that is taken needn't be kept for.
            path = directory / f"{len(given) % 2 if taking.takes else len(given)}.dcm"
            with path.open("wb") as file:
                async for piece in content:
                    file.write(piece)
            each = Given(path, len(given) + 1)
            await taking.begin(each)
            given.append(each)
            # Thousands of small ones are there at once: others have their turn between them.
            await asyncio.sleep(0)
        if not given:
            raise RequestError(400, "The body has no instance.")


class _Taking:
    """Has instances taken, one at a time; what goes wrong with one is raised when the next begins, or at the end."""

    def __init__(self, take: Callable[[Given], Awaitable[None]] | None) -> None:
        self._take = take
        self._taken: tuple[Given, asyncio.Future[None]] | None = None
        self._unreadable = 0

    async def __aenter__(self) -> _Taking:
        return self

    @property
    def takes(self) -> bool:
        """Return whether a file is needed until it is taken, and no longer."""
        return self._take is not None

    async def begin(self, each: Given) -> None:
        """Wait for the one before, and begin with another, unless that one ends the request."""
        await self._end()
        if self._take:
            self._taken = (each, asyncio.ensure_future(self._take(each)))

    async def _end(self) -> None:
        if not self._taken:
            return
        (each, taken), self._taken = self._taken, None
        await taken
        self._unreadable += each.status == CANNOT_UNDERSTAND
        if self._unreadable > _MOST_UNREADABLE:
            raise RequestError(400, f"More than {_MOST_UNREADABLE} parts are no DICOM files: what follows isn't read.")

    async def __aexit__(self, *_: object) -> None:
        # Also where what followed it could not be read.
        await self._end()


def _parts(request: Request, most: int) -> AsyncIterator[tuple[str, AsyncGenerator[bytes]]]:
    content_type = request.headers.get("content-type", "")
    body = _limited(request, most)
    # Widely copied examples send an instance as it is.
    return _one_part(body) if is_bare(request) else read_parts(content_type, body)


def is_bare(request: Request) -> bool:
    """Return whether the body is one instance, and not the parts that PS3.18 10.5.1.2 has."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == DICOM


async def _one_part(body: AsyncGenerator[bytes]) -> AsyncGenerator[tuple[str, AsyncGenerator[bytes]]]:
    yield DICOM, body


def _too_long(most: int) -> RequestError:
    return RequestError(413, f"The body is longer than {most} bytes.")


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes]:
    count = 0
    async for piece in request.stream():
        count += len(piece)
        if count > most:
            raise _too_long(most)
        yield piece


def identify(given: Iterable[Given], study: str, log: logging.Logger) -> None:
    """Read what the files are, and refuse those that can't be read, lack a UID, or aren't of `study`, where that is given."""
    for each in given:
        try:
            with each.path.open("rb") as file:
                each.syntax = read_syntax(file)
                each.start = file.tell()
                texts = read_texts_of(file, each.syntax, _IDENTITY)
                refuse_sequences_before(file, each.start)
                file.seek(each.start)
                refuse_deep(file, each.syntax)
        except Exception as error:
            each.refuse(CANNOT_UNDERSTAND, f"no DICOM file that can be read ({str(error)[:100]})", log)
            continue
        each.study, each.series, each.uid, each.sop_class = texts[_STUDY], texts[_SERIES], texts[_UID], texts[_CLASS]
        each.patient = texts[_PATIENT]
        if not (each.study and each.uid and each.sop_class and each.series):
            each.refuse(MISMATCH, "it lacks one of its UIDs", log)
        elif wrong := next((uid for uid in (each.study, each.series, each.uid) if not is_uid(uid)), None):
            each.refuse(CANNOT_UNDERSTAND, f"{wrong[:80]!r} is no UID: digits and dots, at most 64", log)
        elif study and each.study != study:
            each.refuse(MISMATCH, f"it is of study {each.study:.64}", log)


def answered(request: Request, received: Received, study: str, base: str = "") -> Response:
    """Answer with what was stored and what was not (PS3.18 annex I); `base` is where retrievals are, unless where stores are.

    What ended the request too soon is the status, and one more instance that failed.
    """
    given = received.given
    stored = [each for each in given if each.is_stored]
    status = 200 if len(stored) == len(given) and not any(each.status for each in given) else 202 if stored else 409
    warnings: tuple[str, ...] = ("The body is an instance without multipart/related around it.",) if is_bare(request) else ()
    if received.problem:
        status, warnings = received.problem.status, (*warnings, received.problem.message)
    kind = answer_type(accept_of(request))
    body = _described(given, base or public_url(request), study)
    if received.problem:
        body["00081198"] = element("SQ", *values(body, "00081198"), {"00081197": element("US", CANNOT_UNDERSTAND)})
        body = dict(sorted(body.items()))
    content = write_xml(body) if kind == DICOM_XML else write_json(body)
    later = {"Retry-After": RETRY_AFTER} if status == 503 else {}
    return Response(content, status, warning_headers(request, warnings) | later, kind)


def _described(given: list[Given], base: str, study: str) -> dict[str, Any]:
    def reference(each: Given) -> dict[str, Any]:
        return {"00081150": element("UI", *filter(None, [each.sop_class])), "00081155": element("UI", *filter(None, [each.uid]))}

    stored, failed = [], []
    for each in given:
        if each.is_stored:
            url = Scope(each.study, each.series, each.uid).address(base)
            warning = {"00081196": element("US", each.status)} if each.status else {}
            stored.append(reference(each) | {"00081190": element("UR", url)} | warning)
        else:
            failed.append(reference(each) | {"00081197": element("US", each.status)})
    made = {"00081190": element("UR", f"{base}studies/{study}" if study else f"{base}studies")}
    if failed:
        made["00081198"] = element("SQ", *failed)
    if stored:
        made["00081199"] = element("SQ", *stored)
    return dict(sorted(made.items()))
