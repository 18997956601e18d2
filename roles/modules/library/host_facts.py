#!/usr/bin/python
"""Ansible module: what the roles ask of a host, read in one task and never changed."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_facts
short_description: Gather what the roles ask of a host
author: DICOMweb site maintainers
description:
  - The release, size, packages, database clusters and listening ports, and on request free disk space and
    reachable peers. M(ansible.builtin.setup) and a task for each of the others would take seconds of every run.
  - Facts that M(ansible.builtin.setup) has too bear its names.
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
  resolve:
    description: Names of hosts whose addresses are asked of this host's resolver. Those that are addresses already aren't.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Gather what the roles ask, and whether the database answers
  host_facts:
    paths: [/var/lib]
    connect:
      - {host: db.hospital.example, port: 5432}
    resolve: [archive.hospital.example]
"""

RETURN = r"""
ansible_facts:
  description: >-
    distribution, distribution_version, distribution_major_version, distribution_release, os_family, memtotal_mb, processor_vcpus,
    architecture; release (the key of each role's platforms, such as Debian-13; a rebuild of RHEL 9 is RedHat-9), packages
    (version by name), postgresql_clusters (major versions), site_clusters (those of them that
    are the site's), listeners (the systemd unit or the program, by port as a string),
    free_mb (by path), unreachable (the reason, by "host:port"), resolved (the addresses, by name; none for one that isn't known),
    built (whether there is something of a site already).
  type: dict
"""

LISTEN = "0A"
# Every host of a site has it.
SERVICE = Path("/etc/systemd/system/dicomweb-free-space.service")
DISTRIBUTIONS = {
    "debian": "Debian",
    "ubuntu": "Ubuntu",
    "rhel": "RedHat",
    "rocky": "Rocky",
    "almalinux": "AlmaLinux",
    "centos": "CentOS",
    "ol": "OracleLinux",
}
RHEL_AND_REBUILDS = ("RedHat", "Rocky", "AlmaLinux", "CentOS", "OracleLinux")
FAMILIES = {"Debian": "Debian", "Ubuntu": "Debian", **dict.fromkeys(RHEL_AND_REBUILDS, "RedHat")}


def release() -> dict[str, str]:
    """Return the distribution's name and version, from os-release(5)."""
    fields = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, found, value = line.partition("=")
        if found:
            fields[name] = value.strip().strip("\"'")
    version = fields.get("VERSION_ID", "testing")
    distribution = DISTRIBUTIONS.get(fields["ID"], fields["ID"])
    family = FAMILIES.get(distribution, distribution)
    return {
        "distribution": distribution,
        "os_family": family,
        "release": f"{'RedHat' if family == 'RedHat' else distribution}-{version.split('.')[0]}",
        "distribution_version": version,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": fields.get("VERSION_CODENAME", ""),
    }


def packages() -> dict[str, str]:
    """Return the version of every installed package by its name, as dpkg or rpm knows them."""
    queries = (
        ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${db:Status-Status}\n"],
        ["rpm", "--query", "--all", "--queryformat=%{NAME}\t%{VERSION}\tinstalled\n"],
    )
    for query in queries:
        try:
            shown = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            continue
        lines = (line.split("\t") for line in shown.splitlines())
        return {name: version for name, version, status in lines if status == "installed"}
    return {}


def memory_mb() -> int:
    """Return the host's RAM in MB, as the kernel counts it."""
    return int(re.findall(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())[0]) // 1024


def clusters() -> list[str]:
    """Return the major versions of the PostgreSQL clusters whose data is here, where Debian and where RHEL have it."""
    found = [path.parent.name for path in Path("/var/lib/postgresql").glob("*/main")]
    only = Path("/var/lib/pgsql/data/PG_VERSION")
    return sorted(found + ([only.read_text().strip()] if only.exists() else []))


def site_clusters() -> list[str]:
    """Return the major versions of those clusters that have the settings of the role postgresql; beside them may be others'."""
    ours = [path.parents[2].name for path in Path("/etc/postgresql").glob("*/main/conf.d/dicomweb.conf")]
    only = Path("/var/lib/pgsql/data")
    return sorted(ours + ([(only / "PG_VERSION").read_text().strip()] if (only / "conf.d/dicomweb.conf").exists() else []))


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


def socket_units() -> dict[int, str]:
    """Return the socket unit by which systemd itself listens, by TCP port."""
    command = ["systemctl", "show", "--property=Id,Listen", "*.socket"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {}
    for block in shown.split("\n\n"):
        unit = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        for port in re.findall(r":(\d+) \(Stream\)", block):
            found[int(port)] = unit[1] if unit else "systemd"
    return found


def listeners() -> dict[str, str]:
    """Return who listens on each TCP port."""
    ports = listening_inodes()
    sockets = socket_units()
    found = {str(port): "a program of another namespace" for port in ports.values()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            for link in links:
                if link.startswith("socket:[") and link[8:-1] in ports:
                    port = ports[link[8:-1]]
                    found[str(port)] = sockets.get(port, "systemd") if process.name == "1" else owner(process)
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


def resolved(names: list[str]) -> dict[str, list[str]]:
    """Return the addresses that this host's resolver has for each name, without those of its own loopback."""
    found = {}
    for name in names:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            found[name] = addresses(name)
    return found


def addresses(name: str) -> list[str]:
    """Return a name's addresses, none where nobody knows it."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    each = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
    # Debian has a host's own name at 127.0.1.1.
    return sorted({str(address) for address in each if not (address.is_loopback or address.is_link_local)})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "connect": {"type": "list", "elements": "dict", "default": []},
            "resolve": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    facts = {
        **release(),
        "memtotal_mb": memory_mb(),
        "processor_vcpus": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "packages": packages(),
        "postgresql_clusters": clusters(),
        "site_clusters": site_clusters(),
        "listeners": listeners(),
        "free_mb": {path: free_mb(path) for path in module.params["paths"]},
        "unreachable": unreachable(module.params["connect"]),
        "built": SERVICE.exists(),
    }
    if module.params["resolve"]:
        facts["resolved"] = resolved(module.params["resolve"])
    module.exit_json(changed=False, ansible_facts=facts)


if __name__ == "__main__":
    main()
