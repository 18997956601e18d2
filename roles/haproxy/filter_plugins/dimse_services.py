"""Ansible filters: what HAProxy is told of DIMSE services."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Service = Mapping[str, Any]


def problems(services: Sequence[Service], peers: Sequence[Service]) -> list[str]:
    """Return why these services couldn't be reached beside each other, a sentence each; none when they can."""
    both = [*services, *peers]
    names = [str(each["name"]) for each in both]
    given = [(each["name"], key, int(each.get(key) or 0)) for each in both for key in ("port", "tls_port")]
    found = [f"Two services have the name {name}: give each its own." for name in _repeated(names)]
    found += [f"name {name!r} must have 1 to 31 characters from a-z, 0-9 and '-'." for name in names if not _is_word(name)]
    found += [f"Port {port} is given twice: give each its own." for port in _repeated([port for _, _, port in given if port])]
    found += [f"{name}'s {key} {port} is no port: give one from 1 to 65535." for name, key, port in given if port > 65535]
    for service in services:
        name = service["name"]
        if not int(service.get("port") or 0) and not int(service.get("tls_port") or 0):
            found.append(f"{name} has neither port nor tls_port, so nobody reaches it: give one.")
        for title, networks in (service.get("callers") or {}).items():
            if not re.fullmatch(r"(?! )[ -\[\]-~]{1,16}", title):
                found.append(f"{title!r} among the callers of {name} is no AE title: 1 to 16 characters of ASCII.")
            wrong = [str(network) for network in networks if not _is_network(str(network))]
            found += [
                f"{each!r}, from which {title} may call {name}, is no network: give one such as 10.20.40.0/24." for each in wrong
            ]
    return found


def _repeated(values: Sequence[Any]) -> list[Any]:
    return sorted({value for value in values if values.count(value) > 1})


def _is_word(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def title_in_request(title: str) -> str:
    """Return an AE title as hexadecimal digits, padded to 16 bytes as it stands in an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    return title.ljust(16).encode("ascii").hex().upper()


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "haproxy_problems": problems,
            "haproxy_title": title_in_request,
        }
