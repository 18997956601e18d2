"""Which servers an instance goes to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pipeline_forwarder.settings import Rule

CALLING_AET = "CallingAET"


class Routes:
    """The site's rules. A server is named once, however many rules name it; what no rule matches goes to the default ones."""

    def __init__(self, rules: Sequence[Rule], default: Sequence[str]) -> None:
        self._rules = [({key: re.compile(value) for key, value in rule.match.items()}, rule.to) for rule in rules]
        self._default = tuple(default)

    def of(self, attributes: Callable[[], dict[str, Any]]) -> tuple[str, ...]:
        """Return the servers of an instance; its attributes, by keyword and CallingAET, are asked for where there are rules."""
        if not self._rules:
            return self._default
        values = attributes()
        matching = [to for match, to in self._rules if all(_matches(pattern, values.get(key)) for key, pattern in match.items())]
        return tuple(dict.fromkeys(name for to in matching for name in to)) if matching else self._default


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    """Return whether the whole of a value matches, or one of its values; an absent attribute is an empty one."""
    return any(pattern.fullmatch(part.strip()) for part in str(value or "").split("\\"))
