"""Ansible action: have packages of the distribution, with one look at what is there already."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
module: packages
short_description: Have packages of the distribution
author: DICOMweb site maintainers
description:
  - By apt or by dnf. Without those that they only recommend. Services that they bring are not started, the role that wants one
    configures it first.
  - What is installed is known from M(host_facts), so nothing is asked of the host when nothing is missing; in check mode what
    is missing is said, also on a host without python3-apt.
  - Where the site is installed from a bundle, its repository is the only one that is asked.
options:
  names:
    description: Packages to have.
    type: list
    elements: str
    required: true
  unless:
    description: Packages that are left out where one of the named others is installed.
    type: dict
    default: {}
  module:
    description: The stream of a module that the packages come from, such as C(postgresql:16), where the distribution has modules.
    type: str
    default: ""
  state:
    description: C(latest) upgrades what is installed in an older version than the repositories have.
    type: str
    choices: [present, latest]
    default: present
"""

EXAMPLES = r"""
- name: Install what the host needs, and a time service where it has none
  packages:
    names: [nftables, systemd-timesyncd]
    unless: {systemd-timesyncd: [chrony, ntpsec]}
"""

RETURN = r"""
installed:
  description: Packages that were missing.
  type: list
  elements: str
  returned: always
"""

BUNDLE_APT = "/etc/apt/dicomweb-bundle.conf"
BUNDLE_REPOSITORY = "dicomweb-bundle"


class ActionModule(ActionBase):
    """Compare what is asked with the facts, and call the package manager for the rest."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was installed as `installed`, and the facts anew."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        installed = task_vars["ansible_facts"]["packages"]
        unless = self._task.args.get("unless") or {}
        state = self._task.args.get("state") or "present"
        wanted = [name for name in self._task.args["names"] if not any(other in installed for other in unless.get(name, []))]
        missing = [name for name in wanted if name not in installed]
        result: dict[str, Any] = {"changed": bool(missing), "installed": missing}
        if self._task.check_mode or not (missing or state == "latest"):
            return result
        names = missing if state == "present" else wanted
        from_bundle = bool(self._templar.template(task_vars.get("modules_bundle", False)))
        manage = self._dnf if task_vars["ansible_facts"]["os_family"] == "RedHat" else self._apt
        result.update(manage(names, state, from_bundle, task_vars))
        if not result.get("failed") and result.get("changed"):
            facts = self._execute_module(module_name="host_facts", module_args={}, task_vars=task_vars)["ansible_facts"]
            result["ansible_facts"] = {name: facts[name] for name in ("packages", "postgresql_clusters")}
        return result

    def _apt(self, names: list[str], state: str, from_bundle: bool, task_vars: dict[str, Any]) -> dict[str, Any]:
        # Ubuntu's needrestart would ask which services to restart.
        environment = {"NEEDRESTART_MODE": "a"}
        if from_bundle:
            environment["APT_CONFIG"] = BUNDLE_APT
        self._task.environment = [*(self._task.environment or []), environment]
        arguments = {
            "name": names,
            "state": state,
            "install_recommends": False,
            "update_cache": True,
            # What is cached of other repositories is not the bundle's.
            "cache_valid_time": 0 if from_bundle else 3600,
            "policy_rc_d": 101,
            "lock_timeout": 300,
        }
        return dict(self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars))

    def _dnf(self, names: list[str], state: str, from_bundle: bool, task_vars: dict[str, Any]) -> dict[str, Any]:
        stream = self._task.args.get("module") or ""
        arguments = {
            "name": [f"@{stream}", *names] if stream else names,
            "state": state,
            "install_weak_deps": False,
            "lock_timeout": 300,
            **({"disablerepo": ["*"], "enablerepo": [BUNDLE_REPOSITORY]} if from_bundle else {}),
        }
        return dict(self._execute_module(module_name="ansible.builtin.dnf", module_args=arguments, task_vars=task_vars))
