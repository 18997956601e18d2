"""Settings from environment variables, whose errors name the variable."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

Read = TypeVar("Read", bound=BaseSettings)


def read_settings(kind: type[Read], **given: object) -> Read:
    """Return the settings; raise ValueError whose lines name each variable that is missing or wrong, never its value."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = error.errors(include_input=False)
        lines = [f"{prefix}{'.'.join(map(str, problem['loc']))}".upper() + f": {problem['msg']}" for problem in problems]
        raise ValueError("\n".join(lines)) from None
