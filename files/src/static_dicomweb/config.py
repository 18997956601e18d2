"""Settings of the three commands: a JSON5 file of the form that is known from static-wado, and options, which win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import click
import json5
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

_KNOWN_PLACES = (Path("static-wado.json5"), Path("~/static-wado.json5"))
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
AETitle = Annotated[str, Field(pattern=r"^[\x21-\x3c\x3e-\x5b\x5d-\x7e]([\x20-\x3c\x3e-\x5b\x5d-\x7e]{0,15})$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True)


class _RootGroup(_Part):
    bucket: Annotated[str, Field(min_length=1, alias="Bucket")]
    path: str = ""


class _Deployment(_Part):
    root_group: _RootGroup
    name: str = ""


class _S3(_Part):
    account: str | None = None
    """Accepted for its own sake: credentials say whose it is."""
    region: str | None = None
    endpoint: str | None = None


class _Tree(_Part):
    root_dir: str | None = None
    base: str | None = None
    deployments: list[_Deployment] = []
    s3_env: Annotated[_S3, Field(alias="s3Env")] = _S3()


class _Server(_Part):
    host: str | None = None
    port: Port | None = None
    read_only: bool | None = None
    max_body_megabytes: Annotated[int, Field(ge=1)] | None = None
    no_space_file: str | None = None
    proxy_ae: AETitle | None = None


class _Scp(_Part):
    aet: AETitle | None = None
    host: str | None = None
    port: Port | None = None
    callers: list[AETitle] = []
    no_space_file: str | None = None
    quiet_seconds: Annotated[float, Field(gt=0)] | None = None
    silence_seconds: Annotated[float, Field(gt=0)] | None = None


class _Entity(_Part):
    host: Annotated[str, Field(min_length=1)]
    port: Port
    description: str = ""


class _Config(_Part):
    static_wado_config: _Tree = _Tree()
    dicom_web_server_config: _Server = _Server()
    dicom_web_scp_config: _Scp = _Scp()
    ae_config: dict[AETitle, _Entity] = {}


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a file says, as defaults of the options of each command; raise ValueError that names each key which is wrong."""
    try:
        content = json5.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error.strerror if isinstance(error, OSError) else 'is not UTF-8'}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON5: {str(error).removeprefix('<string>:')}") from None
    try:
        config = _Config.model_validate(content)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            name = ".".join(map(str, problem["loc"])) or "the file"
            said = "is unknown" if problem["type"] == "extra_forbidden" else problem["msg"]
            problems.append(f"{path}: {name}: {said}")
        raise ValueError("\n".join(problems)) from None
    tree, server, scp = config.static_wado_config, config.dicom_web_server_config, config.dicom_web_scp_config
    deployed = [f"s3://{each.root_group.bucket}/{each.root_group.path.strip('/')}" for each in tree.deployments]
    common = {"root": str(Path(tree.root_dir).expanduser()) if tree.root_dir else None, "base": tree.base}
    entities = [f"{title}={entity.host}:{entity.port}" for title, entity in config.ae_config.items()]
    own = {
        "mkdicomweb": {"s3": deployed or None, "s3_region": tree.s3_env.region, "s3_endpoint": tree.s3_env.endpoint},
        "dicomwebserver": server.model_dump(exclude={"proxy_ae"}),
        "dicomwebscp": scp.model_dump(exclude={"callers"})
        | {"callers": scp.callers or None, "proxy_ae": server.proxy_ae, "entities": entities or None},
    }
    return {name: _given(common | settings) for name, settings in own.items()}


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def tree_options(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command the options which all have; a config file's values are their defaults."""

    def use(context: click.Context, _: click.Parameter, given: Path | None) -> None:
        found = given or next((path.expanduser() for path in _KNOWN_PLACES if path.expanduser().is_file()), None)
        if found:
            try:
                context.default_map = read_config(found)[name]
            except ValueError as error:
                raise click.UsageError(str(error)) from None

    options = [
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            is_eager=True,
            envvar="STATIC_DICOMWEB_CONFIG",
            expose_value=False,
            callback=use,
            help="JSON5 file with settings. ./static-wado.json5 and ~/static-wado.json5 are looked for unless given.",
        ),
        click.option("--root", type=click.Path(path_type=Path), required=True, help="Directory of the tree."),
        click.option("--base", default="/static-dicomweb", show_default=True, help="Address at which readers find the tree."),
    ]

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def no_space_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option by which it is told that nothing more is to be stored."""
    return click.option("--no-space-file", type=click.Path(path_type=Path), help="While this file is there, nothing is stored.")(
        command
    )


def entities_of(given: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Return application entities, host and port by AE title, of TITLE=HOST:PORT; raise ValueError for what is none."""
    found = {}
    for text in given:
        title, _, address = text.partition("=")
        host, _, port = address.rpartition(":")
        if not (title and host and port.isdecimal() and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r} is no application entity: give TITLE=HOST:PORT")
        found[title] = (host.strip("[]"), int(port))
    return found
