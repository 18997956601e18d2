"""Filters that find variables whose names no role knows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


def unknown_variables(given: list[str], specs: dict[str, Any]) -> list[str]:
    """Return a line for each given variable that bears a role's prefix but isn't one of that role's.

    `specs` has each role's argument_specs, by the role's name.
    """
    lines = []
    for role, spec in specs.items():
        known = spec["argument_specs"]["main"]["options"]
        for name in given:
            if name.startswith(f"{role}_") and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
                lines.append(name + (f" (did you mean {near[0]}?)" if near else f" (the role {role} has no such variable)"))
    return lines


def argument_specs(roles: Sequence[str], directory: str) -> dict[str, Any]:
    """Return the argument_specs of each of these roles, which are all in one directory."""
    return {role: yaml.safe_load((Path(directory) / role / "meta/argument_specs.yml").read_text()) for role in roles}


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"unknown_variables": unknown_variables, "argument_specs": argument_specs}
