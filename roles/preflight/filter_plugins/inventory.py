"""Filter on the inventory's groups: why no site can be built from them."""

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


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"inventory_problems": inventory_problems}
