"""Runs the service, `pyupsrs [--host HOST] [--port PORT]`; all else is set by environment variables."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time

import psycopg
from dicomweb.errors import RequestError
from psycopg_pool import PoolTimeout
from service.database import make_pool
from service.logs import start_logging
from service.settings import read_settings
from service.systemd import notify
from service.workers import listener, run

from upsrs.database import migrate
from upsrs.protocols import AcknowledgingProtocol, PatientHttpProtocol
from upsrs.settings import Settings
from upsrs.worklist import Worklist

_LOG = logging.getLogger("upsrs")


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
        async with make_pool(settings.database_uri.get_secret_value(), "pyupsrs", 1, settings.database_patience) as pool:
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

    at = listener(settings.host, settings.port)
    try:
        _prepare_database(settings)
    except RuntimeError as error:
        sys.exit(str(error))
    own_directory = None
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        own_directory = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="pyupsrs-")
    _report(settings, "RESTARTED")
    notify("READY=1")
    _LOG.info("listening on %s workers=%d", at.getsockname(), settings.workers)
    try:
        run(
            "upsrs.app:create_app",
            settings.workers,
            at,
            log_config,
            http=PatientHttpProtocol,
            ws=AcknowledgingProtocol,
            ws_max_size=64 * 1024,
            ws_per_message_deflate=False,
        )
    finally:
        notify("STOPPING=1")
        _report(settings, "GOING DOWN")
        if own_directory:
            shutil.rmtree(own_directory, ignore_errors=True)


if __name__ == "__main__":
    main()
