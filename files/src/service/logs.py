"""Logs: one line an event, to stderr."""

from __future__ import annotations

import logging
import logging.config
from typing import Any


def logging_settings(level: str, *names: str) -> dict[str, Any]:
    """Return logging's settings: the named loggers at `level`, everything else from warnings on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(levelname)s %(process)d %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {name: {"level": level.upper()} for name in names},
    }


def start_logging(level: str, *names: str) -> dict[str, Any]:
    """Set logging up, and return its settings for those who set it up again."""
    settings = logging_settings(level, *names)
    logging.config.dictConfig(settings)
    return settings
