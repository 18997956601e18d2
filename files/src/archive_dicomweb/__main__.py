"""Runs the service, `archive-dicomweb`; it is set by environment variables."""

from __future__ import annotations

import logging
import sys

from service.http_head import HeadInTime
from service.logs import start_logging
from service.settings import read_settings
from service.systemd import notify
from service.workers import listener, run

from archive_dicomweb.files import forget_unfinished
from archive_dicomweb.settings import Settings

_LOG = logging.getLogger("archive_dicomweb")


def main() -> None:
    """Run the workers until told to stop."""
    try:
        settings = read_settings(Settings)
    except ValueError as error:
        sys.exit(f"The settings are wrong.\n{error}")
    log_config = start_logging(settings.log_level, "archive_dicomweb")
    try:
        settings.work_directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        forget_unfinished(settings.work_directory)
        at = listener(settings.host, settings.port)
    except OSError as error:
        sys.exit(f"{error.filename or f'{settings.host}:{settings.port}'}: {error.strerror}")
    notify("READY=1")
    _LOG.info("listening on %s workers=%d", at.getsockname(), settings.workers)
    try:
        run("archive_dicomweb.app:create_app", settings.workers, at, log_config, http=HeadInTime)
    finally:
        notify("STOPPING=1")


if __name__ == "__main__":
    main()
