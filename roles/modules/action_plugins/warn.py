"""Ansible action: say lines as Ansible's own warnings."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
module: warn
short_description: Say lines as Ansible's own warnings
author: DICOMweb site maintainers
description:
  - For what is allowed and may still surprise. They stand where Ansible has its warnings; nothing is done on the host.
options:
  lines:
    description: What is said, a warning each.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say that the certificate ends soon
  warn:
    lines: ["{{ inventory_hostname }}: nginx_certificate ends within 30 days: renew it."]
"""

RETURN = r"""
warnings:
  description: The lines.
  type: list
  elements: str
  returned: always
"""


class ActionModule(ActionBase):
    """Take `lines` and say each as a warning; nothing is done on the host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an unchanged result that carries the warnings."""
        result = super().run(tmp, task_vars)
        result["changed"] = False
        result["warnings"] = [str(line) for line in self._task.args["lines"]]
        return result
