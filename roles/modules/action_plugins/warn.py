"""Ansible action: say lines as Ansible's own warnings."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Take `lines` and say each as a warning; nothing is done on the host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an unchanged result that carries the warnings."""
        result = super().run(tmp, task_vars)
        result["changed"] = False
        result["warnings"] = [str(line) for line in self._task.args["lines"]]
        return result
