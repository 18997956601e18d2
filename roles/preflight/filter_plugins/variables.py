"""Filters that find variables whose names no role knows, or that have another type than the role takes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
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
                whose = "the site" if role == "site" else f"the role {role}"
                lines.append(name + (f" (did you mean {near[0]}?)" if near else f" ({whose} has no such variable)"))
    return lines


def mistyped_variables(given: Mapping[str, Any], specs: dict[str, Any]) -> list[str]:
    """Return a line for each given variable whose value YAML has read as another type than the role's, which would then misread it.

    argument_specs turn a text into a list, and `on` into true, for their own check alone.
    """
    lines = []
    for spec in specs.values():
        for name, option in spec["argument_specs"]["main"]["options"].items():
            wanted, value = option.get("type"), given.get(name)
            if wanted == "bool" and isinstance(value, str):
                lines.append(
                    f"{name} is the text {value!r}: write true or false without quotes (on the command line as JSON: -e '{{…}}')"
                )
            elif wanted == "list" and isinstance(value, str):
                # A list of dictionaries may have passwords, and so may a dictionary: they aren't said.
                shown = "" if option.get("elements") == "dict" else f", [{value}]"
                lines.append(f"{name} is a text: write a list{shown}")
            elif wanted == "dict" and isinstance(value, str):
                lines.append(f"{name} is a text: write a dictionary")
            elif wanted == "str" and isinstance(value, bool):
                choices = f", one of {', '.join(option['choices'])}" if "choices" in option else ""
                lines.append(f"{name} is {str(value).lower()}, as YAML reads on, off, yes and no: write it in quotes{choices}")
    return lines


def argument_specs(roles: Sequence[str], directory: str) -> dict[str, Any]:
    """Return the argument_specs of each of these roles, which are all in one directory."""
    return {role: yaml.safe_load((Path(directory) / role / "meta/argument_specs.yml").read_text()) for role in roles}


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "unknown_variables": unknown_variables,
            "mistyped_variables": mistyped_variables,
            "argument_specs": argument_specs,
        }
