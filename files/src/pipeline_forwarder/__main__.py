"""Runs the forwarder, `pipeline-forwarder`; its settings are environment variables."""

from __future__ import annotations

import re
import sys
from typing import Any

from pipeline.engine import Engine
from pipeline.feed import ChangeFeed
from pipeline.journal import Journal
from pipeline.orthanc import Orthanc
from pipeline.web import Watch, make_app, serve
from service.logs import start_logging
from service.settings import read_settings
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipeline_forwarder.forward import Forwarder
from pipeline_forwarder.settings import Settings

_IDENTIFIER = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{8}){4}")


def main() -> None:
    """Forward until told to stop."""
    try:
        settings = read_settings(Settings)
    except ValueError as error:
        sys.exit(f"The settings are wrong.\n{error}")
    start_logging(settings.log_level, "pipeline")
    gateway = Orthanc(settings.gateway_url, settings.gateway_user, settings.gateway_password.get_secret_value())
    try:
        journal = Journal(settings.state_directory / "journal.sqlite")
    except OSError as error:
        sys.exit(str(error))
    feed = ChangeFeed(
        gateway,
        journal,
        settings.poll_interval,
        settings.stable_seconds,
        settings.compare_interval,
        with_deletions=settings.follow_deletions,
    )
    forwarder = Forwarder(gateway, journal, feed, settings)
    # A study is never given up: whoever sent it believes that it is safe.
    engine = Engine(
        gateway.study, journal, feed, forwarder.work, settings.studies_at_a_time, 0, settings.longest_wait, forwarder.gone
    )

    def further() -> dict[str, Any]:
        return {"held_instances": journal.held_count(), "servers_away": forwarder.servers_away}

    seconds = min(3600.0, max(settings.keep_days * 8640, 5.0))
    engine.every(seconds, forwarder.let_go)

    async def deleted(request: Request) -> Response:
        """Be told by Orthanc that an instance was deleted, of which it gives its own identifier."""
        instance = await request.body()
        if not _IDENTIFIER.fullmatch(instance):
            return PlainTextResponse("Give Orthanc's identifier of an instance.\n", 400)
        await run_in_threadpool(feed.deleted, instance.decode())
        engine.wake()
        return Response(status_code=204)

    routes = [Route("/deleted", deleted, methods=["POST"])] if settings.follow_deletions else []
    app = make_app(Watch("pipeline-forwarder", journal, feed, engine, further), routes)
    serve(app, settings.status_host, settings.status_port, settings.log_level)


if __name__ == "__main__":
    main()
