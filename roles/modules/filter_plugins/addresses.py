"""Filters on addresses: of IPv4, of IPv6, and names; and where a service listens and whom it asks."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit


def all_on_loopback(addresses: Sequence[str]) -> bool:
    """Return whether all of them, hosts or URLs, are this host's own loopback. Empty ones are left out."""
    return all(_is_loopback(urlsplit(address).hostname or "" if "//" in address else address) for address in addresses if address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_port(host: str, port: int | str) -> str:
    """Return host and port as a URL has them (RFC 3986 3.2.2): an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"all_on_loopback": all_on_loopback, "host_port": host_port}
