"""The forwarder's settings, from environment variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Rule(BaseModel):
    """Where instances go whose attributes match: `match` has a pattern by keyword or CallingAET, all of which have to match."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: dict[str, str]
    to: tuple[str, ...]

    @field_validator("match")
    @classmethod
    def _check_patterns(cls, given: dict[str, str]) -> dict[str, str]:
        for keyword, pattern in given.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} of {keyword} is no regular expression: {error}") from None
        return given


class Settings(BaseSettings):
    """What the service is told."""

    model_config = SettingsConfigDict(env_prefix="", frozen=True, hide_input_in_errors=True, extra="ignore")

    gateway_url: str = "http://127.0.0.1:8042"
    gateway_user: str = ""
    gateway_password: SecretStr = SecretStr("")
    state_directory: Path = Path("/var/lib/pipeline-forwarder")
    """Where its journal is."""
    status_host: str = "127.0.0.1"
    status_port: Annotated[int, Field(ge=1, le=65535)] = 11114
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    forward_to: Annotated[tuple[str, ...], Field(min_length=1)] = ("storage",)
    """Names of DicomWeb.Servers for what no rule matches (JSON)."""
    rules: tuple[Rule, ...] = ()
    """Rules (JSON). An instance goes wherever a matching rule says."""
    keep_days: float = 7
    """Days that a study stays on the gateway after every server is shown to hold it; below 0 for ever."""
    follow_deletions: bool = False
    """Whether servers delete what was deleted there; then it is kept for ever here."""

    @model_validator(mode="after")
    def _check_deletions(self) -> Settings:
        if self.follow_deletions and self.keep_days >= 0:
            raise ValueError("FOLLOW_DELETIONS deletes at the servers what KEEP_DAYS deletes here: give KEEP_DAYS=-1")
        return self

    poll_interval: Annotated[float, Field(gt=0, le=3600)] = 5
    """Seconds that it is behind at most."""
    stable_seconds: Annotated[float, Field(ge=1)] = 60
    """Orthanc's StableAge."""
    compare_interval: Annotated[float, Field(ge=1)] = 600
    """Seconds after which all studies are compared with the journal."""
    studies_at_a_time: Annotated[int, Field(ge=1, le=32)] = 2
    instances_per_request: Annotated[int, Field(ge=1, le=10_000)] = 200
    megabytes_per_request: Annotated[int, Field(ge=1)] = 100
    request_seconds: Annotated[float, Field(gt=0)] = 180
    """How long one STOW-RS request to a server may take."""
    search_seconds: Annotated[float, Field(gt=0)] = 60
    """How long one search of a server may take."""
    longest_wait: Annotated[float, Field(ge=1)] = 300
    """Seconds between two attempts at most, however often they fail."""
