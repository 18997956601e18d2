"""The service's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial

import httpx
from dicomweb.addresses import INSTANCE, SEARCHES, SERIES, STUDY, retrievals
from dicomweb.transaction import Handler, Meter, Transaction, not_served
from service.database import make_pool
from service.metrics import summed
from service.settings import read_settings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from archive_dicomweb.archive import Archive
from archive_dicomweb.files import Files
from archive_dicomweb.index import Index, make_ready
from archive_dicomweb.kept import Kept
from archive_dicomweb.metadata import KeptWado
from archive_dicomweb.plugin import Plugin
from archive_dicomweb.removal import delete
from archive_dicomweb.search import answer_search
from archive_dicomweb.settings import Settings
from archive_dicomweb.stow import Storing
from archive_dicomweb.uploads import Uploads

_METER = Meter("archive_dicomweb", logging.getLogger("archive_dicomweb"))
# Seconds: on a busy database Orthanc takes its time.
_TIMEOUT = httpx.Timeout(connect=5, read=120, write=60, pool=120)
_MOST_CONNECTIONS = 16


class _State:
    """What the service says of itself."""

    def __init__(self, index: Index, files: Files, orthanc: httpx.AsyncClient) -> None:
        self._index = index
        self._files = files
        self._orthanc = orthanc

    async def health(self, _: Request) -> Response:
        problems = [await self._index.problem(), await self._orthanc_problem(), self._files.problem()]
        found = [problem for problem in problems if problem]
        return JSONResponse({"status": "failing" if found else "ok", "problems": found}, 503 if found else 200)

    async def _orthanc_problem(self) -> str:
        try:
            answer = await self._orthanc.get("/system")
        except httpx.HTTPError as error:
            return f"Orthanc can't be reached: {error or type(error).__name__}"
        return "" if answer.status_code == 200 else f"Orthanc answers {answer.status_code}"

    async def metrics(self, _: Request) -> Response:
        return Response(summed(_METER.requests, _METER.seconds, _METER.cuts), media_type="text/plain; version=0.0.4")


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application of one worker, whose settings are the environment's unless given."""
    chosen = settings or read_settings(Settings)
    uri = chosen.database_uri.get_secret_value()
    pool = make_pool(
        uri, "archive_dicomweb", chosen.database_connections, chosen.database_patience, chosen.statement_seconds, make_ready
    )
    index = Index(pool, chosen.statement_seconds)
    user, password = chosen.orthanc_user, chosen.orthanc_password.get_secret_value()
    limits = httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS)
    orthanc = httpx.AsyncClient(
        base_url=chosen.orthanc_url, auth=(user, password) if user else None, timeout=_TIMEOUT, limits=limits, trust_env=False
    )
    files = Files(chosen.storage, chosen.work_directory, orthanc)
    kept = Kept(chosen.metadata_directory, chosen.metadata_megabytes * 1_000_000)
    archive = Archive(index, files)
    wado = KeptWado(archive, index, kept)
    uploads = Uploads(chosen.orthanc_url, user, password)
    storing = Storing(uploads, index, archive, files, chosen.max_body_megabytes * 1_000_000, chosen.no_space_file)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await pool.open(wait=False)
        warming = asyncio.create_task(wado.warm())
        yield
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        storing.close()
        await orthanc.aclose()
        await pool.close()

    state = _State(index, files, orthanc)
    plugin = Plugin(orthanc)

    def transaction(name: str, handler: Handler) -> Transaction:
        return Transaction(_METER, name, plugin.instead(handler))

    routes: list[BaseRoute] = [
        Route(path, transaction("search", partial(answer_search, index, files, kept, chosen.max_results, level)), methods=["GET"])
        for path, level in SEARCHES.items()
    ]
    storage = transaction("store", storing.store)
    routes += [Route(path, storage, methods=["POST"]) for path in ("/studies", STUDY)]
    deletion = transaction("delete", partial(delete, index, orthanc))
    routes += [Route(path, deletion, methods=["DELETE"]) for path in (STUDY, SERIES, INSTANCE)]
    routes += retrievals(wado, transaction)
    served: list[BaseRoute] = [
        Route("/health", state.health, methods=["GET"]),
        Route("/metrics", state.metrics, methods=["GET"]),
        Mount("/dicom-web", routes=routes),
        *routes,
    ]
    return Starlette(routes=served, lifespan=lifespan, exception_handlers={HTTPException: not_served})
