"""Filters on the inventory's groups: why no site can be built from them, and who is in them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

STACK = ("database", "archive", "web")
KNOWN = (*STACK, "gateway", "monitor", "static", "proxy")


def inventory_problems(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return why a site can't be built from these groups, a sentence each; none when one can."""
    problems = []
    empty = [name for name in KNOWN if not groups.get(name)]
    for name in sorted(set(groups) - {*KNOWN, "all", "ungrouped"}):
        near = difflib.get_close_matches(name, empty, n=1, cutoff=0.85)
        if near and groups[name]:
            problems.append(f"The group {name} is none of a site's: did you mean {near[0]}, which has no host?")
    problems += [
        f"The inventory lacks the group {name}: add it, without hosts where the site has none."
        for name in STACK
        if name not in groups
    ]
    used = [name for name in KNOWN if name not in empty]
    if not used:
        problems.append(f"The inventory has no host in any group of a site: put one into {', '.join(STACK)}, or into proxy.")
    elif set(used) != {"proxy"}:
        problems += [
            f"The group {name} has no host, and {used[0]} has: a site needs one in each of {', '.join(STACK)}."
            for name in STACK
            if name in empty
        ]
    return problems


def hosts_of(groups: Mapping[str, Sequence[str]], *names: str, but: str = "") -> list[str]:
    """Return a play's `hosts` for these groups, all of a site where none is named; not all of them need be there.

    A pattern with a group that isn't there is an error with some configurations of Ansible, and an empty one means all hosts.
    """
    hosts = [host for name in names or KNOWN for host in groups.get(name, ()) if host not in groups.get(but, ())]
    return list(dict.fromkeys(hosts)) or ["localhost", "!localhost"]


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"inventory_problems": inventory_problems, "hosts_of": hosts_of}
