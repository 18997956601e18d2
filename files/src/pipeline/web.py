"""What a service of the pipeline answers over HTTP, on loopback: its state for people and for Prometheus, and commands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from service.logs import logging_settings
from service.systemd import notify
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pipeline.engine import Engine
from pipeline.feed import ChangeFeed
from pipeline.journal import Journal


class Watch:
    """The state of one service, as its journal and its engine have it."""

    def __init__(
        self, name: str, journal: Journal, feed: ChangeFeed, engine: Engine, further: Callable[[], dict[str, Any]]
    ) -> None:
        self.name = name
        self.journal = journal
        self.engine = engine
        self._feed = feed
        self._further = further

    def state(self) -> dict[str, Any]:
        """Return the state. Studies and instances are counted by what has become of them; times are in seconds."""
        waiting_since = self.journal.waiting_since()
        return {
            "service": self.name,
            "orthanc": self.engine.away or "ok",
            "counts": {name: asdict(count) for name, count in self.journal.counts().items()},
            "arriving_instances": self._feed.arriving,
            "behind_seconds": round(max(time.time() - waiting_since, 0.0), 1) if waiting_since else 0.0,
            "problems": [asdict(problem) for problem in self.journal.problems()],
        } | self._further()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the same as Prometheus' metrics."""
        state = self.state()
        prefix = self.name.replace("-", "_")
        for what in ("studies", "instances"):
            family = GaugeMetricFamily(f"{prefix}_{what}", f"{what.title()} by what has become of them", labels=["state"])
            for name, count in state["counts"].items():
                family.add_metric([name], count[what])
            yield family
        yield GaugeMetricFamily(
            f"{prefix}_arriving_instances", "Instances whose study isn't stable yet", state["arriving_instances"]
        )
        yield GaugeMetricFamily(f"{prefix}_behind_seconds", "How long the oldest waiting study has waited", state["behind_seconds"])
        yield GaugeMetricFamily(f"{prefix}_orthanc_up", "Whether Orthanc can be followed", float(state["orthanc"] == "ok"))


def make_app(watch: Watch, routes: Iterable[BaseRoute] = ()) -> Starlette:
    """Return the application; while it lives, the engine runs."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        watch.engine.start()
        notify("READY=1")
        yield
        notify("STOPPING=1")
        watch.engine.stop()

    registry = CollectorRegistry()
    registry.register(watch)

    async def status(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(watch.state))

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(await run_in_threadpool(generate_latest, registry), media_type="text/plain; version=0.0.4")

    async def health(_: Request) -> Response:
        return PlainTextResponse(watch.engine.away or "ok", status_code=503 if watch.engine.away else 200)

    async def retry(request: Request) -> Response:
        return _count(await run_in_threadpool(watch.journal.bring_back, await _studies(request)))

    async def repeat(request: Request) -> Response:
        return _count(await run_in_threadpool(watch.journal.do_over, await _studies(request) or []))

    def _count(count: int) -> Response:
        watch.engine.wake()
        return JSONResponse({"studies": count})

    own = [
        Route("/status", status),
        Route("/metrics", metrics),
        Route("/health", health),
        Route("/retry", retry, methods=["POST"]),
        Route("/repeat", repeat, methods=["POST"]),
    ]
    return Starlette(routes=[*own, *routes], lifespan=life)


async def _studies(request: Request) -> list[str] | None:
    """Return the UIDs of the studies that a command names, or None for all that wait or were set aside."""
    given = (await request.json()).get("studies")
    return None if given is None else [str(uid) for uid in given]


def serve(app: Starlette, host: str, port: int, log_level: str) -> None:
    """Answer until told to stop."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=logging_settings(log_level, "pipeline"),
        log_level=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run()
