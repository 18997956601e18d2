"""The service's settings, from environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the service is told."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_DICOMWEB_", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8050
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that answer."""
    database_uri: SecretStr
    """libpq's connection string or URI of Orthanc's index, for a user that may read it."""
    database_connections: Annotated[int, Field(ge=1, le=100)] = 8
    """Most connections of each worker."""
    database_patience: Annotated[float, Field(gt=0)] = 20
    """Seconds that a request waits for a database that is away: longer than a restart of PostgreSQL takes."""
    statement_seconds: Annotated[float, Field(ge=0)] = 30
    """Seconds that the database may take over one statement of a request; 0 for any."""
    storage: Path
    """Orthanc's StorageDirectory."""
    orthanc_url: str = "http://127.0.0.1:8042"
    """Orthanc's REST API, which instances are stored by, and those read that aren't files."""
    orthanc_user: str = ""
    orthanc_password: SecretStr = SecretStr("")
    work_directory: Path
    """Where files are made, for as long as their request takes."""
    metadata_directory: Path
    """Where metadata that were asked for are kept, compressed."""
    metadata_megabytes: Annotated[int, Field(ge=0)] = 1024
    """Most that is kept there; 0 for nothing."""
    no_space_file: Path | None = None
    """While it is there, nothing is stored."""
    max_body_megabytes: Annotated[int, Field(ge=1)] = 4096
    max_results: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
