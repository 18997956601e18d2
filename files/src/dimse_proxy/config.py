"""The proxy's settings: `config.jsonc`, in the form that is known from other proxies."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from dimse_proxy.jsonc import SyntaxProblemError, parse

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
AETitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$")]
Address = Annotated[str, Field(pattern=r"^[0-9A-Za-z._:-]{1,253}$")]
AnyUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True)


class Entity(_Part):
    """An application entity."""

    aet: AETitle
    ip: Address
    port: Port


class DimseSettings(_Part):
    """The proxy's own entity, which takes C-MOVE's instances, and the archives, in the order in which they are asked."""

    proxy_server: Entity = Entity(aet="PACSBIN_PROXY", ip="0.0.0.0", port=8888)
    peers: Annotated[list[Entity], Field(min_length=1)]
    max_concurrent_connections: Annotated[int, Field(ge=1, le=256)] | None = None
    """Another name of `maxAssociations`."""
    delay_between_requests_ms: Annotated[int, Field(ge=0)] = 0
    """Accepted for its own sake: associations are bounded, and nothing need wait."""


class DicomwebSettings(_Part):
    """Where requests pass to in the mode `dicomweb`."""

    qido_forwarding_url: AnyUrl
    wado_forwarding_url: AnyUrl


class SslSettings(_Part):
    """HTTPS."""

    enabled: bool = False
    port: Port = 3443
    cert_path: str = ""
    key_path: str = ""
    generate_self_signed: bool = False
    redirect_http: bool = True


class CorsSettings(_Part):
    """Which pages of other origins may ask (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    origin: list[str] = ["*"]
    methods: list[str] = ["GET", "POST", "OPTIONS"]
    allowed_headers: list[str] = ["Content-Type", "Authorization", "Accept", "X-API-Key"]
    credentials: bool = False

    @field_validator("origin", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("origin")
    @classmethod
    def _checked(cls, given: list[str]) -> list[str]:
        for origin in given:
            scheme, _, rest = origin.partition("://")
            if origin != "*" and (scheme not in {"http", "https"} or not rest or "/" in rest):
                raise ValueError(f"{origin!r} is no origin: give *, or scheme, host and port such as https://viewer.example.org")
        return given


class BasicUser(_Part):
    """Who may ask, by Basic authentication."""

    user: Annotated[str, Field(min_length=1, pattern=r"^[^:]*$")]
    password: SecretStr


class Config(_Part):
    """All settings. Durations are in the unit that the name says, otherwise in seconds."""

    proxy_mode: Literal["dimse", "dicomweb"]
    dimse_proxy_settings: DimseSettings | None = None
    dicomweb_proxy_settings: DicomwebSettings | None = None
    webserver_host: str = "0.0.0.0"
    webserver_port: Port = 3006
    ssl: SslSettings = SslSettings()
    cors: CorsSettings = CorsSettings()
    storage_path: Path = Path("data")
    enable_cache: bool = True
    cache_retention_minutes: Annotated[float, Field(gt=0)] = 60
    cache_max_megabytes: Annotated[int, Field(ge=1)] = 10_000
    use_cget: bool = False
    use_fetch_level: Literal["STUDY", "SERIES", "IMAGE"] = "SERIES"
    max_associations: Annotated[int, Field(ge=1, le=256)] = 4
    """Associations with each peer, at the same time."""
    max_waiting_seconds: Annotated[float, Field(gt=0)] = 60
    """How long a request may wait for its turn."""
    silence_seconds: Annotated[float, Field(gt=0)] = 30
    """Silence of a peer after which it is given up."""
    qido_min_chars: Annotated[int, Field(ge=0)] = 0
    qido_append_wildcard: bool = True
    max_body_megabytes: Annotated[int, Field(ge=1)] = 4096
    """Largest body of a store."""
    api_key: SecretStr | None = None
    basic_auth: list[BasicUser] = []
    allowed_networks: list[str] = []
    """Networks of clients, such as 10.0.0.0/8; none: everyone."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, given: list[str]) -> list[str]:
        for network in given:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}: give an address or a network such as 10.0.0.0/8") from None
        return given

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.proxy_mode == "dimse" and not self.dimse_proxy_settings:
            raise ValueError("proxyMode is dimse: give dimseProxySettings with its peers")
        if self.proxy_mode == "dicomweb" and not self.dicomweb_proxy_settings:
            raise ValueError("proxyMode is dicomweb: give dicomwebProxySettings with its two URLs")
        if self.ssl.enabled and not self.ssl.generate_self_signed and not (self.ssl.cert_path and self.ssl.key_path):
            raise ValueError("ssl is enabled: give certPath and keyPath, or generateSelfSigned")
        ports = [self.webserver_port]
        ports += [self.ssl.port] if self.ssl.enabled else []
        ports += [self.dimse.proxy_server.port] if self.proxy_mode == "dimse" and not self.use_cget else []
        if len(set(ports)) < len(ports):
            raise ValueError("webserverPort, ssl.port and proxyServer.port must differ")
        return self

    @property
    def dimse(self) -> DimseSettings:
        """Return the settings of the mode `dimse`."""
        assert self.dimse_proxy_settings
        return self.dimse_proxy_settings

    @property
    def associations(self) -> int:
        """Return how many associations a peer is asked for at the same time."""
        chosen = self.dimse_proxy_settings and self.dimse_proxy_settings.max_concurrent_connections
        return chosen or self.max_associations


def read_config(path: Path) -> Config:
    """Read the settings; raise ValueError whose lines name file, line and key of each that is unknown or wrong, never a secret."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error.strerror if isinstance(error, OSError) else 'is not UTF-8'}") from None
    try:
        content, lines = parse(text)
    except SyntaxProblemError as error:
        raise ValueError(f"{path}:{error.line}: {error}") from None
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            where = tuple(problem["loc"])
            known = next((where[:length] for length in range(len(where), 0, -1) if where[:length] in lines), ())
            name = ".".join(map(str, where)) or "the file"
            said = "is unknown" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
            problems.append(f"{path}:{lines.get(known, 1)}: {name}: {said}")
        raise ValueError("\n".join(problems)) from None
