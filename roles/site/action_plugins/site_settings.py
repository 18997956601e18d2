"""Ansible action: the settings of a site on one host, evaluated and of their types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
module: site_settings
short_description: Evaluate the settings of a site
author: DICOMweb site maintainers
description:
  - Evaluates each of the role's defaults for this host, or what the inventory says in its place.
  - What the inventory gives as another type than the role has in its argument_specs is turned into that type, where Ansible's own
    validation would (C(17) into a text, a text into the list that has it alone). What can't be turned is the preflight's to refuse.
  - Nothing is asked of the host.
options: {}
"""

EXAMPLES = r"""
- name: Evaluate the site's settings
  site_settings:
  register: __site_evaluated
"""

RETURN = r"""
settings:
  description: >-
    The value of each of the role's defaults, and of each other setting that was given as another type. It has passwords, and is
    hidden from output and logs.
  type: dict
  returned: always
"""

# What Ansible turns a value into without a guess, from which types.
CONVERSIONS: dict[str, type | tuple[type, ...]] = {
    "bool": (str, int),
    "int": str,
    "float": (str, int),
    "str": (int, float, bool),
    "list": str,
}


def typed(value: Any, option: Mapping[str, Any]) -> Any:
    """Return a value as the type that its option of argument_specs has; as it is where it can't be, or is of that type."""
    wanted = option.get("type", "str")
    if not isinstance(value, CONVERSIONS.get(wanted, ())) or option.get("elements", "str") != "str":
        return value
    spec = {key: option[key] for key in ("type", "choices") if key in option}
    result = ArgumentSpecValidator({"value": spec}).validate({"value": value})
    if result.error_messages:
        return value
    turned = result.validated_parameters["value"]
    return [part.strip() for part in turned] if wanted == "list" else turned


def unfit(name: str, value: Any, option: Mapping[str, Any]) -> str:
    """Return why a value isn't one that its option of argument_specs may have, or nothing."""
    if value is None:
        empty = {"list": "[]", "dict": "{}"}.get(option.get("type", "str"))
        return f"{name} has no value: write {empty} for none, or leave it out." if empty else ""
    spec = {key: option[key] for key in ("type", "choices") if key in option}
    return " ".join(ArgumentSpecValidator({name: spec}).validate({name: value}).error_messages)


class ActionModule(ActionBase):
    """Evaluate them on the control node."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the `settings`, or fail by the name of each that can't be evaluated."""
        result = dict(super().run(tmp, task_vars))
        known = dict(task_vars or {})
        role = Path(known["role_path"])
        defaults = {
            name: value for path in sorted((role / "defaults/main").glob("*.yml")) for name, value in self._read(path).items()
        }
        templar = self._templar.copy_with_new_env(available_variables=known)
        settings: dict[str, Any] = {}
        problems, mistyped, wrong = [], [], []

        given = [name for name in known if name not in defaults or known[name] != defaults[name]]
        for name, option in self._options(role.parent, given).items():
            try:
                value = templar.template(known[name])
            except AnsibleError:
                # Of a role that this host isn't given; otherwise the role that asks for it says so.
                continue
            turned = typed(value, option)
            # Others follow from the site's own, and would be named in their place.
            if name.startswith("site_") and (why := unfit(name, turned, option)):
                wrong.append(why)
            if turned is not value:
                known[name] = settings[name] = turned
            elif option.get("type") in ("list", "dict") and isinstance(value, str) and value:
                mistyped.append(f"{name} is a text: write a {'list' if option['type'] == 'list' else 'dictionary'}.")

        if wrong:
            return {**result, "failed": True, "msg": "\n".join(wrong)}
        for name in defaults:
            try:
                known[name] = settings[name] = templar.template(known[name])
            except AnsibleError as error:
                problems.append(f"{name} can't be evaluated: {error}")
        if problems:
            # What can't be evaluated follows from what was given as another type, where something was.
            return {**result, "failed": True, "msg": "\n".join(mistyped or problems)}
        return {**result, "settings": settings, "_ansible_no_log": True}

    def _read(self, path: Path) -> dict[str, Any]:
        return self._loader.load_from_file(str(path)) or {}

    def _options(self, roles: Path, given: list[str]) -> dict[str, Any]:
        """Return those of the given variables that a role has, as its argument_specs have them."""
        options = {}
        for path in sorted(roles.glob("*/meta/argument_specs.yml")):
            names = [name for name in given if name.startswith(f"{path.parents[1].name}_")]
            if names:
                known = self._read(path)["argument_specs"]["main"].get("options", {})
                options.update({name: known[name] for name in names if name in known})
        return options
