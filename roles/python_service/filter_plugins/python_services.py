"""Ansible filters: what follows from the services that another role asks `python_service` for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Service = Mapping[str, Any]

ENVIRONMENTS = "/opt/dicomweb-site"
_ABSENT: dict[str, Any] = {
    "arguments": [],
    "lock": "",
    "requirement": "",
    "environment": {},
    "files": [],
    "socket": "",
    "port": 0,
    "after": [],
    "type": "exec",
    "memory": "50%",
    "loopback_only": False,
    "user": "",
    "groups": [],
    "state": False,
    "writable": [],
    "reader_group": "",
    "tools": [],
    "run": True,
}


def complete(services: Sequence[Service], project: str) -> list[dict[str, Any]]:
    """Return each service with all of its keys, and `directory`, where its virtual environments are on the host.

    `project` is the directory of our own project, which has the lock files in `requirements`.
    """
    completed = []
    for given in services:
        service = {**_ABSENT, "venv": given["name"], "description": given["name"], **given}
        service["lock"] = f"{project}/requirements/{service['lock'] or service['venv']}.txt"
        service["directory"] = f"{ENVIRONMENTS}/{service['venv']}"
        completed.append(service)
    return completed


def environments(services: Sequence[Service]) -> list[dict[str, str]]:
    """Return the virtual environments of completed services, each once, as the action `python_packages` takes them."""
    found = {one["venv"]: {"name": one["venv"], "lock": one["lock"], "requirement": one["requirement"]} for one in services}
    return list(found.values())


def releases(archives: Mapping[str, str], python: str) -> list[dict[str, str]]:
    """Return what the module `releases` takes of gathered archives; `python` is the hosts' program."""
    return [
        {
            "directory": f"{ENVIRONMENTS}/{name}",
            "name": archive.rpartition("/")[2].removesuffix(".tgz"),
            "archive": archive,
            "python": python,
        }
        for name, archive in archives.items()
    ]


def directories(services: Sequence[Service]) -> list[dict[str, str]]:
    """Return the directories of completed services, as the module `managed_files` takes them."""
    found: dict[str, dict[str, str]] = {}
    for service in services:
        found[f"/etc/{service['name']}"] = {"path": f"/etc/{service['name']}"}
        for path in service["writable"]:
            found[path] = {
                "path": path,
                "owner": service["user"],
                "group": service["reader_group"] or service["user"],
                "mode": "2750" if service["reader_group"] else "0750",
            }
    return list(found.values())


def files(services: Sequence[Service]) -> list[dict[str, Any]]:
    """Return the files that completed services read, as the action `managed_files` takes them; one without a source is none."""
    return [
        {
            "src": file["src"],
            "dest": f"/etc/{service['name']}/{file['name']}",
            "group": service["user"] if file.get("secret") else "root",
            "mode": "0640" if file.get("secret") else "0644",
            "secret": bool(file.get("secret")),
            "validate": file.get("validate", ""),
        }
        for service in services
        for file in service["files"]
        if file["src"]
    ]


def units(services: Sequence[Service]) -> list[dict[str, Any]]:
    """Return the units of completed services, as the module `service_state` takes them."""
    found: list[dict[str, Any]] = []
    for service in services:
        name, run = service["name"], service["run"]
        listens = bool(service["socket"]) and run
        files = [f"/etc/{name}", f"/etc/systemd/system/{name}.service", f"{service['directory']}/current"]
        found += [
            {
                "name": f"{name}.socket",
                "files": [f"/etc/systemd/system/{name}.socket"],
                "state": "started" if listens else "stopped",
            },
            {
                "name": f"{name}.service",
                "files": files,
                "ports": [int(service["port"])] if int(service["port"]) and run else [],
                "state": "started" if run else "stopped",
            },
        ]
    return found


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "python_services": complete,
            "python_service_environments": environments,
            "python_service_releases": releases,
            "python_service_directories": directories,
            "python_service_files": files,
            "python_service_units": units,
        }
