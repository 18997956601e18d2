"""Filter on host_firewall_allow: the rules of every kind of firewall."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def firewall_rules(allow: Sequence[Mapping[str, Any]], ssh_ports: Sequence[int], ssh_from: Sequence[str]) -> list[dict[str, Any]]:
    """Return what may come in, SSH first: `name`, `ports`, `networks`, and `service`, its name in firewalld."""
    return [
        {
            "name": entry["name"],
            "service": "dicomweb-" + re.sub("[^a-z0-9]+", "-", entry["name"].lower()),
            "ports": entry["ports"],
            "networks": _listed(entry.get("from") or []),
        }
        for entry in [{"name": "SSH", "ports": ssh_ports, "from": ssh_from}, *allow]
    ]


def _listed(networks: str | Sequence[str]) -> list[str]:
    """Return networks as a list, also those that were written as one text, as argument_specs have it."""
    return [part.strip() for part in networks.split(",")] if isinstance(networks, str) else list(networks)


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"host_firewall_rules": firewall_rules}
