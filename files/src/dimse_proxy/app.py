"""The proxy's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial

from dicomweb.addresses import INSTANCE, RETRIEVALS, SEARCHES, STUDY, retrievals
from dicomweb.transaction import Handler, Transaction, not_served
from dicomweb.wado import Wado
from prometheus_client import generate_latest
from service.systemd import notify
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from dimse_proxy import metrics, qido, stow
from dimse_proxy.access import Access
from dimse_proxy.archive import Archive
from dimse_proxy.config import Config
from dimse_proxy.cors import Cors
from dimse_proxy.forward import Forwarder

_LOG = logging.getLogger("dimse_proxy")


def _transaction(name: str, handler: Handler) -> Transaction:
    return Transaction(metrics.METER, name, handler)


def _dimse_routes(archive: Archive) -> list[BaseRoute]:
    store = _transaction("store", partial(stow.store, archive))
    routes: list[BaseRoute] = [Route(path, store, methods=["POST"]) for path in ("/studies", STUDY)]
    for path, level in SEARCHES.items():
        routes.append(Route(path, _transaction("search", partial(qido.answer_search, archive, level)), methods=["GET"]))
    return [*routes, *retrievals(Wado(archive), _transaction)]


def _forwarding_routes(forwarder: Forwarder) -> list[BaseRoute]:
    search = _transaction("search", partial(forwarder.forward, is_search=True))
    other = _transaction("forward", partial(forwarder.forward, is_search=False))
    routes: list[BaseRoute] = [Route(path, other, methods=["POST"]) for path in ("/studies", STUDY)]
    routes += [Route(path, search, methods=["GET"]) for path in SEARCHES]
    # What each server calls its bulk data is its own.
    bulk_data = [f"{path}/{name}/{{path:path}}" for path in (STUDY, INSTANCE) for name in ("bulkdata", "bulk")]
    return [*routes, *(Route(path, other, methods=["GET"]) for path in [*RETRIEVALS, *bulk_data])]


class _State:
    """What the proxy says of itself."""

    def __init__(self, config: Config, archive: Archive | None, forwarder: Forwarder | None) -> None:
        self._config = config
        self._archive = archive
        self._forwarder = forwarder

    async def ping(self, _: Request) -> Response:
        return PlainTextResponse("pong\n")

    async def health(self, _: Request) -> Response:
        problems = await self._archive.echo() if self._archive else []
        if self._forwarder:
            problems = list(filter(None, [await self._forwarder.problem()]))
        return JSONResponse({"status": "failing" if problems else "ok", "problems": problems}, 503 if problems else 200)

    async def status(self, _: Request) -> Response:
        peers = [
            {
                "aet": peer.entity.aet,
                "ip": peer.entity.ip,
                "port": peer.entity.port,
                "associations": peer.associations,
                "problem": peer.problem,
            }
            for peer in (self._archive.peers if self._archive else [])
        ]
        running = [str(retrieval.scope) for retrieval in self._archive.running] if self._archive else []
        return JSONResponse({"proxyMode": self._config.proxy_mode, "peers": peers, "retrievals": running})

    async def metrics(self, _: Request) -> Response:
        for peer in self._archive.peers if self._archive else []:
            metrics.OPEN_ASSOCIATIONS.labels(peer.entity.aet).set(peer.associations)
            metrics.PEER_UP.labels(peer.entity.aet).set(not peer.problem)
        return Response(generate_latest(), media_type="text/plain; version=0.0.4")


def create_app(config: Config) -> ASGIApp:
    """Return the application; called in its event loop. Raises OSError where a port or `storagePath` can't be used."""
    archive = Archive(config) if config.proxy_mode == "dimse" else None
    forwarder = Forwarder(config) if config.proxy_mode == "dicomweb" else None
    if archive and not config.use_cget:
        archive.listen()

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        tidier = None
        if archive:
            for problem in await archive.echo():
                _LOG.warning("%s", problem)
            tidier = asyncio.create_task(archive.tidy())
        notify("READY=1")
        yield
        notify("STOPPING=1")
        if tidier:
            tidier.cancel()
        if archive:
            await archive.close()
        if forwarder:
            await forwarder.close()

    state = _State(config, archive, forwarder)
    routes: list[BaseRoute] = [
        Route(f"/{name}", getattr(state, name), methods=["GET"]) for name in ("ping", "health", "status", "metrics")
    ]
    served = _dimse_routes(archive) if archive else _forwarding_routes(forwarder) if forwarder else []
    # Where clients look for it, and where proxies of this form have it.
    routes += [Mount("/dicom-web", routes=served), *served]
    app = Starlette(routes=routes, lifespan=life, exception_handlers={HTTPException: not_served})
    return Cors(Access(app, config), config.cors)
