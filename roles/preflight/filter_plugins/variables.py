"""Filters that find variables whose names no role knows, or that have another type than the role takes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# Words with which others' variables begin, too: of these, what resembles one of ours is meant for it.
_COMMON_PREFIXES = {"host": 0.8, "site": 0.8}
_MOST_WRONG_LETTERS = 2
_DIGITS = str.maketrans("", "", "0123456789")


def unknown_variables(given: list[str], specs: dict[str, Any]) -> list[str]:
    """Return a line for each given variable that bears a role's prefix but isn't one of that role's.

    `specs` has each role's argument_specs, by the role's name.
    """
    lines = []
    for role, spec in specs.items():
        known = _options(spec)
        for name in given:
            if name.startswith(f"{role}_") and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=_COMMON_PREFIXES.get(role, 0.6))
                if near:
                    lines.append(f"{name} (did you mean {near[0]}?)")
                elif role not in _COMMON_PREFIXES:
                    lines.append(f"{name} (the role {role} has no such variable)")
    return lines


def misspelt_variables(given: list[str], specs: dict[str, Any]) -> list[str]:
    """Return a line for each given variable that no role has, and that is one of a role's but for a letter or two."""
    known = {name for spec in specs.values() for name in _options(spec)}
    lines = []
    for name in given:
        if name in known:
            continue
        near = [other for other in known if _could_be(name, other)]
        lines += [f"{name} (did you mean {found}?)" for found in difflib.get_close_matches(name, near, n=1, cutoff=0.9)]
    return lines


def _could_be(name: str, other: str) -> bool:
    """Return what costs less than to compare all letters. Names that differ by a number are meant to differ."""
    is_alike = name[:3] == other[:3] or name[-5:] == other[-5:]
    return is_alike and abs(len(name) - len(other)) <= _MOST_WRONG_LETTERS and name.translate(_DIGITS) != other.translate(_DIGITS)


def _options(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["argument_specs"].get("main", {}).get("options", {})
    return found


def mistyped_variables(given: Mapping[str, Any], specs: dict[str, Any]) -> list[str]:
    """Return a line for each given variable whose value YAML has read as another type than the role's, which would then misread it.

    argument_specs turn a text into a list, and `on` into true, for their own check alone.
    """
    lines = []
    for spec in specs.values():
        for name, option in _options(spec).items():
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


def roles_with_variables(directory: str) -> list[str]:
    """Return the roles in a directory that have variables."""
    return sorted(path.parents[1].name for path in Path(directory).glob("*/meta/argument_specs.yml"))


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "unknown_variables": unknown_variables,
            "misspelt_variables": misspelt_variables,
            "roles_with_variables": roles_with_variables,
            "mistyped_variables": mistyped_variables,
            "argument_specs": argument_specs,
        }
