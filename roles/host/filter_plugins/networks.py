"""Filter that finds what is no network."""

from __future__ import annotations

import ipaddress
from typing import Any


def not_networks(given: list[str]) -> list[str]:
    """Return those that are neither an address nor a network of IPv4 or IPv6."""
    wrong = []
    for network in given:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            wrong.append(network)
    return wrong


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"not_networks": not_networks}
