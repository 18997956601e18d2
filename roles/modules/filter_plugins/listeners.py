"""Filters on the ports of a host: who has to listen there, and who does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Port = Mapping[str, Any]


def is_of(holder: str, unit: str) -> bool:
    """Return whether the unit that holds a port is the one that should; `unit` may have `*` for any text."""
    return bool(re.match(re.escape(unit).replace(r"\*", ".*"), holder))


def holders(ports: Sequence[Port], listeners: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each port with the unit that holds it, "nobody" where none does, and whether it is the `right` one."""
    found = []
    for port in ports:
        holder = listeners.get(str(port["port"])) or "nobody"
        found.append({"former": "", **port, "holder": holder, "right": is_of(holder, port["unit"])})
    return found


def repeated(ports: Sequence[Port]) -> list[dict[str, Any]]:
    """Return each port that several services of the host would listen at, with the `variables` that say so."""
    variables: dict[int, list[str]] = {}
    for port in ports:
        variables.setdefault(int(port["port"]), []).append(port["variable"])
    return [{"port": port, "variables": names} for port, names in variables.items() if len(names) > 1]


def with_ports(units: Sequence[str], ports: Sequence[Port]) -> list[dict[str, Any]]:
    """Return the units as the module `service_state` takes them, with the ports that each has to answer at."""
    return [{"name": unit, "ports": [int(port["port"]) for port in ports if port["unit"] == unit]} for unit in units]


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"port_holders": holders, "repeated_ports": repeated, "units_with_ports": with_ports}
