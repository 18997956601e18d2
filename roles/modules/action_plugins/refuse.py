"""Ansible action: settings that can't be, all of them named at once."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader

DOCUMENTATION = r"""
module: refuse
short_description: Stop the play where settings can't be
author: DICOMweb site maintainers
description:
  - Does for a list of conditions what M(ansible.builtin.assert) does for one, and names everything that is wrong, not only what it
    meets first.
  - Nothing is asked of the host.
options:
  settings:
    description: What is refused.
    type: list
    elements: dict
    required: true
    suboptions:
      when: {description: "Condition under which it is refused, as a task has it.", type: str, required: true}
      because: {description: "Names the variable, what is wrong with it, and what to give.", type: str, required: true}
      loop: {description: "The condition is looked at for each of this list, as C(item).", type: list}
"""

EXAMPLES = r"""
- name: Refuse what can't be
  refuse:
    settings:
      - when: not 1 <= lookup('ansible.builtin.vars', item) | int <= 65535
        because: "{{ item }} is {{ lookup('ansible.builtin.vars', item) }}: give a port from 1 to 65535."
        loop: [nginx_http_port, nginx_https_port]
  register: __nginx_checked
"""

RETURN = r"""
problems:
  description: What was refused, a sentence each.
  type: list
  returned: always
"""


class ActionModule(ActionBase):
    """Look at each condition on the control node."""

    _requires_connection = False

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave the settings as they are written: a sentence is rendered only where it is said."""
        return value if name == "settings" else super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the `problems`, and fail where there are some."""
        result = dict(super().run(tmp, task_vars))
        # It has the same way with `when` and `loop`.
        entries = action_loader.get("managed_files", class_only=True).entries
        problems = []
        for declared in self._task.args.get("settings") or []:
            if set(declared) - {"loop"} != {"when", "because"}:
                raise AnsibleActionFail(
                    f"{sorted(declared)}: a setting that is refused has when, because, and maybe loop.", obj=declared
                )
            try:
                problems += [str(entry["because"]) for entry, _ in entries(self._templar, declared, task_vars or {})]
            except AnsibleError:
                # It may follow from what is wrong already.
                if not problems:
                    raise
        if problems:
            result.update(failed=True, msg=" ".join(problems))
        return {**result, "problems": problems}
