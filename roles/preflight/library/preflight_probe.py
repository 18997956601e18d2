#!/usr/bin/python
"""Ansible module: what a host has to offer, read and never changed."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_probe
short_description: Read a host's listening ports, free disk space and reachable peers
options:
  paths:
    description: Paths whose file systems' free space is asked; one that doesn't exist yet counts as its nearest parent.
    type: list
    elements: path
    default: []
  connect:
    description: TCP peers that must be reachable, as `host` and `port`.
    type: list
    elements: dict
    default: []
"""

RETURN = r"""
listeners:
  description: The systemd unit (or the program) that listens on each TCP port, by port as a string.
  type: dict
free_mb:
  description: Free space in MB for each path.
  type: dict
unreachable:
  description: Why a peer can't be reached, by "host:port".
  type: dict
"""

LISTEN = "0A"


def listening_inodes() -> dict[str, int]:
    """Return the TCP port of every listening socket, by the socket's inode."""
    ports = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                ports[fields[9]] = int(fields[1].rsplit(":", 1)[1], 16)
    return ports


def owner(process: Path) -> str:
    """Return the systemd unit of a process, or its command where it has none."""
    units = re.findall(r"[^/\s]+\.service", (process / "cgroup").read_text())
    return units[-1] if units else (process / "comm").read_text().strip()


def listeners() -> dict[str, str]:
    """Return who listens on each TCP port."""
    ports = listening_inodes()
    found = {str(port): "a program of another namespace" for port in ports.values()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            for link in links:
                if link.startswith("socket:[") and link[8:-1] in ports:
                    found[str(ports[link[8:-1]])] = owner(process)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked
    return found


def free_mb(path: str) -> int:
    """Return the space that is free for the path, in MB."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize // 1_000_000


def unreachable(peers: list[dict[str, str]]) -> dict[str, str]:
    """Return why each peer that can't be reached can't be."""
    reasons = {}
    for peer in peers:
        try:
            socket.create_connection((peer["host"], int(peer["port"])), timeout=5).close()
        except OSError as error:
            reasons[f"{peer['host']}:{peer['port']}"] = str(error)
    return reasons


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "connect": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        listeners=listeners(),
        free_mb={path: free_mb(path) for path in module.params["paths"]},
        unreachable=unreachable(module.params["connect"]),
    )


if __name__ == "__main__":
    main()
