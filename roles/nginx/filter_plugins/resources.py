"""Ansible filters: the resources that nginx lets through, from the list of them to regular expressions of their paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Resource = Mapping[str, Any]


def below(prefix: str, resources: Sequence[Resource]) -> list[dict[str, Any]]:
    """Return the resources with their paths below a prefix."""
    return [{**resource, "path": re.escape(prefix) + resource["path"]} for resource in resources]


def expanded(path: str, segments: Mapping[str, str]) -> str:
    """Return a path's regular expression, its segments in braces replaced."""
    return re.sub(r"\{([a-z]+)\}", lambda name: segments[name[1]], path)


def by_method(resources: Sequence[Resource], segments: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the regular expressions of the paths that take a method, by the method. Who takes GET takes HEAD (RFC 9110 9.3.2)."""
    found: dict[str, list[str]] = {}
    for resource in resources:
        for method in resource["methods"]:
            found.setdefault(method, []).append(expanded(resource["path"], segments))
    return found


def stores(resources: Sequence[Resource], segments: Mapping[str, str]) -> list[str]:
    """Return the regular expressions of the paths that instances are stored at."""
    return [expanded(resource["path"], segments) for resource in resources if resource.get("stores")]


def origins(names: Sequence[str], ports: Mapping[str, int]) -> list[str]:
    """Return the origins (RFC 6454) of the site's own pages: each of its names, under each scheme with its port."""
    usual = {"http": 80, "https": 443}
    hosts = [f"[{name}]" if ":" in name else name.lower() for name in names]
    return [
        f"{scheme}://{host}" + ("" if int(port) == usual[scheme] else f":{port}")
        for host in hosts
        for scheme, port in ports.items()
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "nginx_below": below,
            "nginx_by_method": by_method,
            "nginx_stores": stores,
            "nginx_origins": origins,
        }
