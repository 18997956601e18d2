"""Answers what can't be a file, `dicomwebserver`: searches with conditions, other transfer syntaxes, images for people."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import click
import uvicorn
from dicomweb.addresses import INSTANCE, SEARCHES, SERIES, STUDY, retrievals
from dicomweb.decoders import Decoders
from dicomweb.transaction import Handler, Meter, Transaction, not_served
from dicomweb.wado import Wado
from prometheus_client import generate_latest
from service.logs import start_logging
from service.systemd import notify
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from static_dicomweb.archive import Archive
from static_dicomweb.change import delete, store
from static_dicomweb.config import no_space_option, tree_options
from static_dicomweb.layout import Layout
from static_dicomweb.make import RENDERING_SECONDS
from static_dicomweb.qido import answer_search

_METER = Meter("static_dicomweb", logging.getLogger("static_dicomweb"))
_MOST_RESULTS = 5000


def _transaction(name: str, handler: Handler) -> Transaction:
    return Transaction(_METER, name, handler)


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type="text/plain; version=0.0.4")


def create_app(layout: Layout, base: str, most: int, *, is_read_only: bool, no_space_file: Path | None = None) -> ASGIApp:
    """Return the application, which serves a tree at the address `base`, and takes bodies of `most` bytes."""

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        notify("READY=1")
        yield
        notify("STOPPING=1")
        layout.close()

    routes: list[BaseRoute] = []
    for path, level in SEARCHES.items():
        routes.append(Route(path, _transaction("search", partial(answer_search, layout, level, _MOST_RESULTS)), methods=["GET"]))
    routes += retrievals(Wado(Archive(layout)), _transaction)
    if not is_read_only:
        storing = _transaction("store", partial(store, layout, base, most, no_space_file, Decoders(RENDERING_SECONDS)))
        routes += [Route(path, storing, methods=["POST"]) for path in ("/studies", STUDY, "/instances")]
        deletion = _transaction("delete", partial(delete, layout, base))
        routes += [Route(path, deletion, methods=["DELETE"]) for path in (STUDY, SERIES, INSTANCE)]
    served: list[BaseRoute] = [
        Route("/health", _health, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
        Mount(urlsplit(base).path, routes=routes),
    ]
    return Starlette(routes=served, lifespan=life, exception_handlers={HTTPException: not_served})


@click.command()
@tree_options("dicomwebserver")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen at.")
@click.option("--read-only", is_flag=True, help="Take no STOW-RS and no DELETE.")
@click.option("--max-body-megabytes", default=4096, show_default=True, type=click.IntRange(1), help="Largest body of a STOW-RS.")
@no_space_option
@click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"]))
def main(
    root: Path,
    base: str,
    host: str,
    port: int,
    read_only: bool,
    max_body_megabytes: int,
    no_space_file: Path | None,
    log_level: str,
) -> None:
    """Serve a tree of mkdicomweb as DICOMweb."""
    start_logging(log_level, "static_dicomweb")
    try:
        layout = Layout(root)
        layout.tidy()
    except OSError as error:
        logging.shutdown()
        print(f"--root {root}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    app = create_app(layout, base.rstrip("/"), max_body_megabytes * 1_000_000, is_read_only=read_only, no_space_file=no_space_file)
    uvicorn.run(app, host=host, port=port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
