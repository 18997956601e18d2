"""Filter on the hosts of an inventory: those that the lab boots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lab_hosts(names: Iterable[str], hostvars: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return hosts as `lab_host_hosts` has them, by their `ansible_host` and their `scenario_suite`."""
    return [
        {"name": name, "address": hostvars[name]["ansible_host"], "suite": hostvars[name]["scenario_suite"]}
        for name in names
        if name != "localhost"
    ]


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"lab_hosts": lab_hosts}
