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
            "networks": entry.get("from") or [],
        }
        for entry in [{"name": "SSH", "ports": ssh_ports, "from": ssh_from}, *allow]
    ]


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"host_firewall_rules": firewall_rules}
