"""The service's settings, from environment variables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from upsrs.names import is_ae_title

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What the service is told. Lists of AE titles are separated by commas."""

    model_config = SettingsConfigDict(env_prefix="PYUPSRS_", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    database_uri: SecretStr
    """libpq's connection string or URI of PostgreSQL."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    database_connections: Annotated[int, Field(ge=1, le=100)] = 8
    """Most connections of each worker, besides the one that it listens on."""
    database_patience: Annotated[float, Field(gt=0)] = 20
    """Seconds that a request waits for a database that is away: longer than a restart of PostgreSQL takes."""
    statement_seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds that the database may take over one statement of a request; 0 for any."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    ae_title: str = "PYUPSRS"
    """Requester of a cancellation that names none."""
    strict: bool = False
    """Refuse a new workitem that lacks an attribute which may be empty, instead of adding it."""
    worklist_label: Annotated[str, Field(min_length=1, max_length=64)] = "WORKLIST"
    answer_with_array: bool = True
    empty_search_status: Annotated[Literal[200, 204, 404], BeforeValidator(int)] = 200
    max_body_kb: Annotated[int, Field(ge=1)] = 1024
    max_results: Annotated[int, Field(ge=1, le=100_000)] = 1000

    deletion_locks: bool = True
    subscribers: Names = ()
    """AE titles that may subscribe; empty for all."""
    status_subscribers: Names = ()
    """AE titles that hear of the service's own restarts besides those who have a subscription."""
    acknowledge_seconds: Annotated[float, Field(gt=0)] = 30
    """How long a subscriber may take to read what it was sent."""

    retention_days: Annotated[float, Field(ge=0)] = 0
    """Days after which a workitem in its final state is deleted; 0 for never."""
    event_retention_days: Annotated[float, Field(gt=0)] = 30
    """Days that events wait for a subscriber that is away."""

    @field_validator("subscribers", "status_subscribers", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(filter(None, (part.strip() for part in given.split(",")))) if isinstance(given, str) else given

    @field_validator("subscribers", "status_subscribers")
    @classmethod
    def _check_names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if not is_ae_title(name):
                raise ValueError(f"{name!r} is no AE title")
        return given

    @field_validator("ae_title")
    @classmethod
    def _check_name(cls, given: str) -> str:
        return cls._check_names((given,))[0]
