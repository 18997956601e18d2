"""Ansible action: bring the archives of releases to the host where they aren't the current ones, and have them unpacked there."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Look, bring, unpack. `module: releases` (library/releases.py) says what is taken."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether a release was made the current one."""
        super().run(tmp, task_vars)
        archives = [release["archive"] for release in self._task.args["releases"]]
        wanted = [{key: release[key] for key in release if key != "archive"} for release in self._task.args["releases"]]
        result = self._releases(wanted, task_vars)
        if result.get("failed") or not result["changed"] or self._task.check_mode:
            return result
        directory = self._make_tmp_path()
        try:
            for number, (release, archive) in enumerate(zip(wanted, archives, strict=True)):
                if release["directory"] in result["directories"]:
                    release["unpacked_from"] = self._connection._shell.join_path(directory, f"{number}.tar")
                    self._transfer_file(archive, release["unpacked_from"])
            return self._releases(wanted, task_vars)
        finally:
            self._remove_tmp_path(directory)

    def _releases(self, releases: list[dict[str, str]], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_name="releases", module_args={"releases": releases}, task_vars=task_vars))
