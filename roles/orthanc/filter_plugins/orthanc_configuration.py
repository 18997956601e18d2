"""Filters on orthanc_instances: what can't be, and one Orthanc's whole configuration from its entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

Settings = dict[str, Any]

DIRECTORY = "/etc/orthanc/instances"


_DELETIONS = "-deletions.lua"


def merged(*layers: Settings) -> Settings:
    """Return the layers laid over each other: dictionaries are merged, anything else of a later layer wins."""
    result: Settings = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = merged(result[key], value)
            else:
                # Nobody changes it: a copy of each layer would be a tenth of a play's processor time.
                result[key] = value
    return result


def _index(instance: Settings) -> Settings:
    database = instance.get("database")
    if not database:
        return {"PostgreSQL": {"EnableIndex": False}}
    access: Settings = {
        "Host": database["host"],
        "Port": database.get("port") or 5432,
        "Database": database["name"],
        "Username": database["user"],
        "Password": database["password"],
    }
    if database.get("ca"):
        # EnableSsl knows no verification: only a URI says verify-full.
        user, password, name = (quote(str(database[key]), safe="") for key in ("user", "password", "name"))
        host = f"[{access['Host']}]" if ":" in access["Host"] else access["Host"]
        uri = f"postgresql://{user}:{password}@{host}:{access['Port']}/{name}"
        authority = quote(f"{DIRECTORY}/{instance['name']}-database-ca.pem", safe="/")
        access = {"ConnectionUri": f"{uri}?sslmode=verify-full&sslrootcert={authority}"}
    return {"PostgreSQL": {"EnableIndex": True, **access}}


def _access(instance: Settings) -> Settings:
    users = instance.get("users") or {}
    settings: Settings = {
        "RemoteAccessAllowed": bool(instance.get("http_remote")),
        # Unset, it would follow RemoteAccessAllowed.
        "AuthenticationEnabled": bool(users),
        "RegisteredUsers": users,
        "SslEnabled": bool(instance.get("certificate")),
    }
    if instance.get("certificate"):
        settings["SslCertificate"] = f"{DIRECTORY}/{instance['name']}.pem"
    return settings


def configuration(instance: Settings, site: Settings, given: Settings, plugins: list[str], scripts: Sequence[str] = ()) -> Settings:
    """Return the configuration of one instance.

    `site` are the role's own settings, `given` those of orthanc_settings; the instance's `settings` win over both. The role's Lua
    scripts are loaded after those of the settings.
    """
    storage = instance.get("storage") or f"/var/lib/orthanc/{instance['name']}"
    own = {
        "Name": instance["name"],
        "DicomAet": instance["aet"],
        "DicomPort": instance.get("dicom_listen_port") or instance["dicom_port"],
        "HttpPort": instance["http_port"],
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "Plugins": plugins,
    }
    settings = merged(site, own, _access(instance), _index(instance), given, instance.get("settings") or {})
    own_scripts = [f"{DIRECTORY}/{instance['name']}{_DELETIONS}"] if instance.get("deletions_url") else []
    loaded = [*settings.get("LuaScripts", []), *scripts, *own_scripts]
    return settings | {"LuaScripts": loaded} if loaded else settings


def _repeated(values: list[Any]) -> list[str]:
    return sorted({str(value) for value in values if values.count(value) > 1})


def instance_problems(instances: list[Settings], given: Settings | None = None) -> list[str]:
    """Return why these instances couldn't run beside each other on one host, a sentence each; none when they can.

    `given` is orthanc_settings.
    """
    problems = []
    for key in ("name", "aet", "storage"):
        twice = _repeated([instance[key] for instance in instances if instance.get(key)])
        problems += [f"Two instances have the {key} {value}: give each its own." for value in twice]
    keys = ("dicom_port", "dicom_listen_port", "http_port")
    ports = [int(instance[key]) for instance in instances for key in keys if instance.get(key) is not None]
    problems += [
        f"Port {port} is given twice: set each dicom_port, dicom_listen_port and http_port to its own." for port in _repeated(ports)
    ]
    problems += [f"{port} is no port: give a number from 1 to 65535." for port in ports if not 0 < port < 65536]
    for instance in instances:
        name, aet = str(instance["name"]), str(instance["aet"])
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
            problems.append(f"name {name!r} must have 1 to 31 characters from a-z, 0-9 and '-'.")
        if not re.fullmatch(r"[ -\[\]-~]{1,16}", aet) or not aet.strip():
            problems.append(f"aet {aet!r} must have 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2).")
        if instance.get("dicom_listen_port") and merged(given or {}, instance.get("settings") or {}).get("DicomCheckModalityHost"):
            problems.append(
                f"{name} has DicomCheckModalityHost, and is reached through HAProxy, whose address is all that it would see: "
                "name the networks of each AE title in site_dicom_callers instead (haproxy_dimse_services)."
            )
        if instance.get("http_remote") and not (instance.get("users") and instance.get("certificate")):
            problems.append(
                f"{name} has http_remote, and without users and certificate anyone on the network could read every study: "
                "give it users, certificate and certificate_key."
            )
        if bool(instance.get("certificate")) != bool(instance.get("certificate_key")):
            problems.append(f"{name} has only one of certificate and certificate_key: give both.")
    return problems


def units(instances: Sequence[Settings], common: Sequence[str]) -> list[dict[str, Any]]:
    """Return the instances' units, as the module `service_state` takes them; `common` are files that each of them reads."""
    found: list[dict[str, Any]] = [{"name": "orthanc.service", "state": "masked"}]
    for instance in instances:
        own = [f"{DIRECTORY}/{instance['name']}{ending}" for ending in (".json", ".pem", "-database-ca.pem", _DELETIONS)]
        files = [*common, "/etc/systemd/system/orthanc@.service", *own, "/etc/orthanc/credentials"]
        found.append({"name": f"orthanc@{instance['name']}.service", "ports": [int(instance["http_port"])], "files": files})
    return found


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "orthanc_configuration": configuration,
            "orthanc_instance_problems": instance_problems,
            "orthanc_units": units,
        }
