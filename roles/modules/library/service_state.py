#!/usr/bin/python
"""Ansible module: systemd units that run with the files they have now."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: service_state
short_description: Have systemd units enabled and running with the files they have now
author: DICOMweb site maintainers
description:
  - Enables and starts each unit, and restarts (or reloads) one whose files changed after it was last started or
    reloaded. The comparison is made from the host's own state, so what an interrupted run left undone is done by
    the next one. A handler would be lost with its run.
  - Works in check mode, also where the unit isn't installed yet.
options:
  units:
    description: The units, in the order in which they are to be started.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the unit with its suffix., type: str, required: true}
      files: {description: Files and directories whose change asks for a restart., type: list, elements: path, default: []}
      reload_files: {description: Files whose change asks for no more than a reload., type: list, elements: path, default: []}
      ports: {description: TCP ports that it must answer at within 60 s., type: list, elements: int, default: []}
      replaces_workers:
        description: >-
          Whether a reload gives it new worker processes, while those of before say by their names that they end. It is waited for:
          until then they answer as before.
        type: bool
        default: false
      state:
        description: C(masked) is stopped, and can't be started by anything.
        type: str
        choices: [started, stopped, masked]
        default: started
"""

EXAMPLES = r"""
- name: Run nginx with its configuration
  service_state:
    units:
      - name: nginx.service
        files: [/usr/sbin/nginx, /etc/systemd/system/nginx.service.d]
        reload_files: [/etc/nginx/nginx.conf]
"""

RETURN = r"""
actions:
  description: What was done to which unit.
  type: list
  returned: always
"""

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "StateChangeTimestampMonotonic",
    "DropInPaths",
    "MainPID",
    "ConditionResult",
    "ConditionTimestampMonotonic",
)
READY_SECONDS = 60
REPLACED_SECONDS = 30


def changed_at(paths: list[str]) -> float:
    """Return the latest change of content or metadata among the paths, in seconds since the epoch, 0.0 for none."""
    latest = 0.0
    for path in paths:
        try:
            # What a link points at counts as much as the link: plugins of a package are links to versioned files.
            latest = max(latest, os.lstat(path).st_ctime, os.stat(path).st_ctime)
        except FileNotFoundError:
            continue
        if os.path.isdir(path):
            latest = max(latest, changed_at([os.path.join(path, name) for name in os.listdir(path)]))
    return latest


def unread_drop_ins(properties: dict[str, str], files: list[str]) -> list[str]:
    """Return the drop-ins among the files that systemd has not read.

    Of a drop-in whose directory is new, systemd says NeedDaemonReload=no until something else makes it reload.
    """
    drop_ins = [
        os.path.join(path, name)
        for path in files
        if path.endswith(".service.d") and os.path.isdir(path)
        for name in os.listdir(path)
    ]
    return [path for path in drop_ins if path.endswith(".conf") and path not in properties.get("DropInPaths", "").split()]


def answers(port: int) -> bool:
    """Return whether something on this host takes TCP connections at the port, by either kind of address."""
    for loopback in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError):
            socket.create_connection((loopback, port), timeout=2).close()
            return True
    return False


def workers_of(main_process: int) -> set[tuple[int, int]]:
    """Return the children of a process, number and time of the start, but for those that say by their name that they end."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # The name of the program may have anything in it; what comes behind it has numbers alone (proc(5)).
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == main_process and b"shutting down" not in (directory / "cmdline").read_bytes():
                found.add((int(directory.name), int(fields[19])))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Systemd:
    """The few questions and orders that the module has for systemctl."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.actions: list[str] = []

    def properties(self, unit: str) -> dict[str, str]:
        """Return the unit's properties; LoadState is not-found for one that doesn't exist."""
        shown = subprocess.run(
            ["systemctl", "show", "--property=" + ",".join(PROPERTIES), "--", unit],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return {"LoadState": "not-found", **dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)}

    def order(self, verb: str, unit: str | None = None) -> None:
        """Run `systemctl VERB UNIT`; fail the task with the unit's last log lines when it doesn't succeed."""
        self.actions.append(f"{verb} {unit}" if unit else verb)
        if self.module.check_mode:
            return
        result = subprocess.run(["systemctl", verb, *([unit] if unit else [])], capture_output=True, text=True, check=False)
        if result.returncode:
            self.fail(f"systemctl {verb} {unit or ''} failed: {result.stderr.strip()}", unit or "init.scope")

    def reload(self, unit: str, files: list[str], main_process: int) -> None:
        """Have the unit read its files; fail the task where it doesn't, so that the next run finds them changed once more.

        Where the number of its main process is given, its workers of before have gone, or are about to, when this returns.
        """
        self.actions.append(f"reload {unit}")
        if self.module.check_mode:
            return
        former = workers_of(main_process) if main_process else set()
        # Twice: systemd may just be removing the control group of a unit that has no processes (219/CGROUP).
        for _ in range(2):
            result = subprocess.run(["systemctl", "reload", unit], capture_output=True, text=True, check=False)
            if not result.returncode:
                break
        problem = f"systemctl reload {unit} failed: {result.stderr.strip()}"
        if not result.returncode:
            if not former or self.have_gone(former, main_process):
                return
            problem = f"{unit} still answers by its former files {REPLACED_SECONDS} s after it was told to read them."
        # The attempt itself counts as a change of the unit's state.
        for path in filter(Path.exists, map(Path, files)):
            path.chmod(stat.S_IMODE(path.stat().st_mode))
        self.fail(problem, unit)

    def have_gone(self, former: set[tuple[int, int]], main_process: int) -> bool:
        """Wait until none of these is a worker any more, and return whether that came."""
        end = time.monotonic() + REPLACED_SECONDS
        while former & workers_of(main_process):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def fail(self, message: str, unit: str) -> None:
        """Fail the task with the unit's last log lines."""
        log = subprocess.run(
            ["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", unit],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        self.module.fail_json(msg=f"{message}\nThe last of its log:\n{log}", actions=self.actions)

    def wait_for(self, name: str, ports: list[int]) -> None:
        """Wait until the unit answers at its ports."""
        if self.module.check_mode:
            return
        end = time.monotonic() + READY_SECONDS
        for port in ports:
            while not answers(port):
                if time.monotonic() > end:
                    self.fail(f"{name} doesn't answer at port {port} after {READY_SECONDS} s.", name)
                time.sleep(0.1)

    def bring(self, unit: dict[str, Any]) -> None:
        """Bring one unit into its state."""
        name, files, reload_files, state = unit["name"], unit["files"], unit["reload_files"], unit["state"]
        found = self.properties(name)
        if found["LoadState"] == "not-found" and state == "started":
            if self.module.check_mode:
                self.actions.append(f"start {name}")
                return
            self.module.fail_json(msg=f"There is no unit {name} on this host.", actions=self.actions)
        if state != "started":
            if found["ActiveState"] not in ("inactive", "failed"):
                self.order("stop", name)
            if state == "masked" and found["LoadState"] != "masked":
                self.order("mask", name)
            if state == "stopped" and found["UnitFileState"] == "enabled":
                self.order("disable", name)
            return
        if found["UnitFileState"] == "disabled":
            self.order("enable", name)
        if found["ActiveState"] not in ("active", "reloading"):
            if found.get("ConditionResult") == "no" and found.get("ConditionTimestampMonotonic", "0") != "0":
                # Its own unit says that it isn't for this host: a clock in a container is the host's below.
                return
            if name.endswith(".socket"):
                # systemd listens for no service that already runs, and listens by itself.
                service = name[: -len("socket")] + "service"
                if self.properties(service)["ActiveState"] == "active":
                    self.order("stop", service)
            # Not "start": a unit that waits between two automatic restarts takes its new files at once this way.
            self.order("restart", name)
            return
        in_state_for = time.monotonic() - int(found["StateChangeTimestampMonotonic"]) / 1e6
        in_state_since = time.time() - in_state_for
        if changed_at(files) > in_state_since:
            self.order("restart", name)
        elif changed_at(reload_files) > in_state_since:
            self.reload(name, reload_files, int(found["MainPID"]) if unit["replaces_workers"] else 0)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "files": {"type": "list", "elements": "path", "default": []},
                    "reload_files": {"type": "list", "elements": "path", "default": []},
                    "ports": {"type": "list", "elements": "int", "default": []},
                    "replaces_workers": {"type": "bool", "default": False},
                    "state": {"type": "str", "choices": ["started", "stopped", "masked"], "default": "started"},
                },
            }
        },
        supports_check_mode=True,
    )
    systemd = Systemd(module)
    units = module.params["units"]
    for unit in units:
        properties = systemd.properties(unit["name"])
        if properties.get("NeedDaemonReload") == "yes" or unread_drop_ins(properties, unit["files"]):
            systemd.order("daemon-reload")
            break
    for unit in units:
        systemd.bring(unit)
    for unit in units:
        if unit["state"] == "started":
            systemd.wait_for(unit["name"], unit["ports"])
    module.exit_json(changed=bool(systemd.actions), actions=systemd.actions)


if __name__ == "__main__":
    main()
