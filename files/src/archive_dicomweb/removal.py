"""Deletion of a study, a series or an instance, by Orthanc."""

from __future__ import annotations

import logging

import httpx
from dicomweb.errors import RequestError
from dicomweb.retrieval_request import scope_of
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.index import Index

_LOG = logging.getLogger("archive_dicomweb")
_RESOURCES = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}


async def delete(index: Index, orthanc: httpx.AsyncClient, request: Request) -> Response:
    """Delete what the address names; raise RequestError: 404 where there is none, 503 where Orthanc is away."""
    scope = scope_of(request)
    identifiers = await index.identifiers(scope)
    if not identifiers:
        raise RequestError(404, f"There is nothing of {scope}.")
    for identifier in identifiers:
        try:
            answer = await orthanc.delete(f"/{_RESOURCES[scope.level]}/{identifier}")
        except httpx.HTTPError as error:
            _LOG.error("Orthanc: %s", error or type(error).__name__)
            raise RequestError(503, "The archive can't be reached: try again later.") from None
        # Somebody else may have deleted it meanwhile.
        if answer.status_code not in (200, 404):
            raise RequestError(502, f"The archive answers {answer.status_code}, and has deleted nothing of this.")
    return Response(status_code=204)
