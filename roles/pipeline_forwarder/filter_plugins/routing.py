"""Filter on pipeline_forwarder_rules: what is wrong with them."""

from __future__ import annotations

import re
from typing import Any


def routing_problems(rules: list[dict[str, Any]]) -> list[str]:
    """Return why instances couldn't be routed by these rules, a sentence each; none when they can."""
    problems = []
    for number, rule in enumerate(rules, 1):
        if not rule["match"]:
            problems.append(f"Rule {number} matches everything: name its servers in pipeline_forwarder_servers instead.")
        if not rule["to"]:
            problems.append(f"Rule {number} leads nowhere: give `to` at least one server.")
        for keyword, pattern in rule["match"].items():
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", keyword):
                problems.append(f"Rule {number}: {keyword} is neither the keyword of an attribute nor CallingAET.")
            try:
                re.compile(str(pattern))
            except re.error as error:
                problems.append(f"Rule {number}: {pattern!r} of {keyword} is no regular expression: {error}.")
    return problems


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"routing_problems": routing_problems}
