"""The monitor's settings, from environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")]


class Settings(BaseSettings):
    """What the service is told."""

    model_config = SettingsConfigDict(env_prefix="", frozen=True, hide_input_in_errors=True, extra="ignore")

    storage_url: str = "http://127.0.0.1:8043"
    """Orthanc's REST API."""
    storage_user: str = ""
    storage_password: SecretStr = SecretStr("")
    storage_certificates: str = ""
    """PEM file of who signed the storage's certificate; empty for the system's."""
    storage_aet: AETitle = "ORTHANC2"
    storage_host: str = "127.0.0.1"
    storage_port: Port = 4243
    monitor_aet: AETitle = "PYTHON_SCP"
    monitor_host: str = "0.0.0.0"
    """Address that C-MOVE's instances come to."""
    monitor_port: Port = 11112
    retrieve: Literal["move", "get"] = "move"
    """C-MOVE to the monitor's own SCP, or C-GET over the association that asks."""
    silence_seconds: Annotated[float, Field(gt=0)] = 60
    """After so long without a word from the storage, an association is over."""

    output_dir: Path = Path("/var/lib/received_dicom")
    state_directory: Path = Path("/var/lib/pipeline-monitor")
    """Where its journal is."""
    reserve_megabytes: Annotated[int, Field(ge=0)] = 100
    """What is left free on the disk of the files: without it, studies wait."""
    delete_after_days: float = -1
    """Days after its extraction that a study is deleted from the storage; below 0 for never."""

    poll_interval: Annotated[float, Field(gt=0, le=3600)] = 5
    """Seconds that it is behind at most."""
    stable_seconds: Annotated[float, Field(ge=1)] = 60
    """The storage's StableAge."""
    compare_interval: Annotated[float, Field(ge=1)] = 600
    """Seconds after which all studies are compared with the journal."""
    studies_at_a_time: Annotated[int, Field(ge=1, le=32)] = 3
    most_attempts: Annotated[int, Field(ge=0)] = 12
    """Attempts after which a study is set aside; 0 for never."""
    longest_wait: Annotated[float, Field(ge=1)] = 300
    """Seconds between two attempts at most."""

    status_host: str = "127.0.0.1"
    status_port: Port = 11113
    forwarder_url: str = ""
    """Where the pipeline's forwarder tells its state; empty for no forwarder."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
