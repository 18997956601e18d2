"""STOW-RS: each instance of a request goes to the first peer by C-STORE."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from dicomweb.errors import RequestError
from dicomweb.retrieval_request import checked_uid
from dicomweb.stow import NOT_SUPPORTED, REFUSED, Given, answered, identify, receive
from dimse.scu import Proposal, Requester
from dimse.upper_layer import MOST_CONTEXTS, NotAgreedError
from starlette.requests import Request
from starlette.responses import Response

from dimse_proxy.archive import Archive
from dimse_proxy.peers import Peer

_LOG = logging.getLogger("dimse_proxy")
_PIECE_BYTES = 1 << 18


async def store(archive: Archive, request: Request) -> Response:
    """Store the instances of a request; answer with what was stored and what was not."""
    study = checked_uid(request.path_params["study"]) if "study" in request.path_params else ""
    directory = archive.cache.new()
    try:
        received = await receive(request, directory.path, archive.config.max_body_megabytes * 1_000_000)
        await asyncio.to_thread(identify, received.given, study, _LOG)
        await _send(archive.peers[0], [each for each in received.given if each.status is None])
    finally:
        await asyncio.to_thread(directory.remove)
    return answered(request, received, study)


async def _send(peer: Peer, given: list[Given]) -> None:
    kinds = sorted({(each.sop_class, each.syntax) for each in given})
    for start in range(0, len(kinds), MOST_CONTEXTS):
        chosen = kinds[start : start + MOST_CONTEXTS]
        proposals = tuple(Proposal(sop_class, (syntax,)) for sop_class, syntax in chosen)

        def work(requester: Requester, these: list[tuple[str, str]] = chosen) -> None:
            for each in given:
                if each.status is None and (each.sop_class, each.syntax) in these:
                    _send_one(requester, each)

        try:
            await peer.run(proposals, work)
        except RequestError as error:
            if not any(each.is_stored for each in given):
                raise
            for each in given:
                if each.status is None:
                    each.refuse(REFUSED, error.message, _LOG)


def _send_one(requester: Requester, each: Given) -> None:
    try:
        with contextlib.closing(_pieces(each)) as pieces:  # type: ignore[type-var]
            response = requester.store(each.sop_class, each.uid, each.syntax, pieces)
    except NotAgreedError as error:
        each.refuse(NOT_SUPPORTED, str(error), _LOG)
        return
    each.status = response.status
    if not each.is_stored:
        each.refuse(response.status, response.comment or "the archive gives no reason", _LOG)


def _pieces(each: Given) -> Iterator[bytes]:
    with each.path.open("rb") as file:
        file.seek(each.start)
        while piece := file.read(_PIECE_BYTES):
            yield piece
