"""STOW-RS into the tree, and DELETE of a study, a series or an instance."""

from __future__ import annotations

import asyncio
import logging
import shutil
from functools import partial
from pathlib import Path

from dicomweb.decoders import Decoders
from dicomweb.errors import RequestError
from dicomweb.retrieval_request import checked_uid, scope_of
from dicomweb.stow import CANNOT_UNDERSTAND, DUPLICATE, Given, answered, identify, receive
from service.free_space import check_space, refused
from starlette.requests import Request
from starlette.responses import Response

from static_dicomweb.layout import Layout
from static_dicomweb.make import SAME_UIDS, publish, remove, remove_part, render_apart

_LOG = logging.getLogger("static_dicomweb")


async def store(layout: Layout, base: str, most: int, no_space_file: Path | None, decoders: Decoders, request: Request) -> Response:
    """Render the instances of a request, of `most` bytes at most, and publish their studies; answer with what became of them.

    Raises RequestError: 507 while a file says that there is no space, or where there is none; 503 where the disk fails otherwise.
    """
    study = checked_uid(request.path_params["study"]) if "study" in request.path_params else ""
    directory = layout.new()
    try:
        check_space(no_space_file)
        directory.mkdir()
        received = await receive(request, directory, most)
        await asyncio.to_thread(identify, received.given, study, _LOG)
        await _render(decoders, layout, base, [each for each in received.given if each.status is None])
    except OSError as error:
        _LOG.error("%s: %s", layout.root, error.strerror)
        raise refused(error, "The tree's disk takes nothing more: nothing of this is published.") from None
    finally:
        await asyncio.to_thread(partial(shutil.rmtree, directory, ignore_errors=True))
    return answered(request, received, study, f"{base}/")


async def _render(decoders: Decoders, layout: Layout, base: str, given: list[Given]) -> None:
    outcome = await render_apart(decoders, layout.root, base, [each.path for each in given])
    await asyncio.to_thread(publish, layout, base, sorted(outcome.studies))
    problems = dict(outcome.problems)
    for each in given:
        why = problems.get(each.path)
        if why:
            each.refuse(DUPLICATE if why == SAME_UIDS else CANNOT_UNDERSTAND, why, _LOG)
        else:
            each.status = 0


async def delete(layout: Layout, base: str, request: Request) -> Response:
    """Remove what the address names; raise RequestError (404) where there is none, 503 where the disk fails."""
    scope = scope_of(request)
    place = layout.instances.joinpath(*scope.uids)
    if not place.is_dir():
        raise RequestError(404, f"There is nothing of {scope}.")
    try:
        if scope.series:
            await asyncio.to_thread(remove_part, layout, base, scope)
        else:
            await asyncio.to_thread(remove, layout, [scope.study])
    except OSError as error:
        _LOG.error("%s: %s", layout.root, error.strerror)
        raise refused(error, "The tree's disk takes nothing more: nothing of this is deleted.") from None
    return Response(status_code=204)
