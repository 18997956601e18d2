"""The pipeline's state for a terminal."""

from __future__ import annotations

import json
import time
from typing import Any

_CLEAR = "\033[H\033[2J"


def show(state: dict[str, Any], is_json: bool, is_watched: bool) -> None:
    """Print the state of the pipeline as GET /pipeline returns it."""
    if is_json:
        print(json.dumps(state, indent=2))
        return
    lines = [_CLEAR] if is_watched else []
    lines.append(f"{'':<12}{'studies':>10}{'instances':>12}")
    for name, count in state["counts"].items():
        lines.append(f"{name:<12}{count['studies']:>10}{count['instances']:>12}")
    lines.append(f"behind by {state['behind_seconds']:.1f} s")
    for part in state["parts"]:
        state_of = part["error"] or "ok"
        lines.append(f"{part['name']:<20}{state_of}")
    for problem in state["problems"]:
        when = "set aside" if problem["state"] == "failed" else f"again in {max(problem['next_attempt'] - time.time(), 0):.0f} s"
        lines.append(f"{problem['uid']}  {problem['part']}, {problem['attempts']} attempts, {when}: {problem['reason']}")
    print("\n".join(lines), flush=True)
