"""Ansible action: bring the archive of a release to the host where that isn't the current one, and have it unpacked there."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Look, bring, unpack. `module: release` (library/release.py) says what is taken."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether the release was made the current one."""
        super().run(tmp, task_vars)
        wanted = {name: self._task.args[name] for name in ("directory", "name")}
        result = dict(self._execute_module(module_name="release", module_args=wanted, task_vars=task_vars))
        if result.get("failed") or not result["changed"] or self._task.check_mode:
            return result
        directory = self._make_tmp_path()
        try:
            place = self._connection._shell.join_path(directory, "release.tar")
            self._transfer_file(self._task.args["archive"], place)
            brought = {**wanted, "unpacked_from": place}
            return dict(self._execute_module(module_name="release", module_args=brought, task_vars=task_vars))
        finally:
            self._remove_tmp_path(directory)
