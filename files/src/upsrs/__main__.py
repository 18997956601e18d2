"""Runs the service, `pyupsrs [--host HOST] [--port PORT]`; all else is set by environment variables."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
import time

import psycopg
import uvicorn
from dicomweb.errors import RequestError
from psycopg_pool import PoolTimeout
from service.logs import start_logging
from service.settings import read_settings
from service.systemd import notify
from uvicorn.supervisors import Multiprocess

from upsrs.database import make_pool, migrate
from upsrs.protocols import AcknowledgingProtocol, PatientHttpProtocol
from upsrs.settings import Settings
from upsrs.worklist import Worklist

_LOG = logging.getLogger("upsrs")
_FIRST_PASSED_SOCKET = 3


def _listener(settings: Settings) -> socket.socket:
    """Return the socket that systemd has passed (sd_listen_fds(3)), or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        passed = socket.socket(fileno=_FIRST_PASSED_SOCKET)
        passed.set_inheritable(True)
        return passed
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    made.set_inheritable(True)
    return made


def _prepare_database(settings: Settings) -> None:
    """Bring the schema forward, as soon as the database answers."""
    while True:
        try:
            before, after = migrate(settings.database_uri.get_secret_value())
        except psycopg.OperationalError as error:
            _LOG.warning("database away, trying again: %s", str(error).splitlines()[0] if str(error) else "no answer")
            time.sleep(2)
            continue
        if before != after:
            _LOG.warning("schema migrated from %s to %s", before or "nothing", after)
        return


def _report(settings: Settings, status: str) -> None:
    async def report() -> None:
        async with make_pool(settings.database_uri.get_secret_value(), 1, settings.database_patience) as pool:
            await Worklist(pool, settings).report_status(status)

    try:
        asyncio.run(report())
    except (psycopg.Error, PoolTimeout, RequestError):
        _LOG.warning("subscribers could not be told: %s", status)


def main() -> None:
    """Migrate the schema, then run the workers until told to stop."""
    parser = argparse.ArgumentParser(
        prog="pyupsrs", description="A UPS-RS worklist service. Its settings: environment variables PYUPSRS_…"
    )
    parser.add_argument("--host", help="address to listen on (PYUPSRS_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (PYUPSRS_PORT)")
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = read_settings(Settings, **options)
    except ValueError as error:
        sys.exit(f"The settings are wrong.\n{error}")
    log_config = start_logging(settings.log_level, "upsrs", "alembic")

    listener = _listener(settings)
    try:
        _prepare_database(settings)
    except RuntimeError as error:
        sys.exit(str(error))
    own_directory = None
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        own_directory = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="pyupsrs-")
    _report(settings, "RESTARTED")
    notify("READY=1")
    _LOG.info("listening on %s workers=%d", listener.getsockname(), settings.workers)
    config = uvicorn.Config(
        "upsrs.app:create_app",
        factory=True,
        workers=settings.workers,
        http=PatientHttpProtocol,
        ws=AcknowledgingProtocol,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,
        log_config=log_config,
        log_level=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
        # A worker that isn't there by then is given up, and with it a reload: a busy host takes its time to start one.
        timeout_worker_healthcheck=60,
    )
    try:
        Multiprocess(config, sockets=[listener]).run()
    finally:
        notify("STOPPING=1")
        _report(settings, "GOING DOWN")
        if own_directory:
            shutil.rmtree(own_directory, ignore_errors=True)


if __name__ == "__main__":
    main()
