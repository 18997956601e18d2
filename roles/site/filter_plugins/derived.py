"""Filters by which the roles' variables follow from the inventory's groups: databases, ports, and what stands before them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


def kept_secret(directory: str, name: str) -> str | None:
    """Return the password that is kept in a file of this directory of the control node; none where it isn't."""
    try:
        # Ansible's lookup of passwords, which made them once, may have written a salt behind it.
        return (Path(directory) / name).read_text().splitlines()[0].partition(" salt=")[0]
    except (FileNotFoundError, IndexError):
        return None


def only_keys(entries: Iterable[Entry], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return each dictionary with these keys alone."""
    return [{key: entry[key] for key in keys} for entry in entries]


def host_address(host: str, hostvars: Mapping[str, Any]) -> str:
    """Return the address or the name by which other hosts of the site reach this one: `site_address`, else `ansible_host`.

    Nothing, where a site has no such host. Raises ValueError where the inventory has none of that name.
    """
    if not host:
        return ""
    if host not in hostvars:
        raise ValueError(
            f"{host} is no host of the inventory: correct what names it, such as site_archive_host or site_database_host"
        )
    known = hostvars[host]
    return str(known.get("site_address") or known.get("ansible_host") or host)


def is_name(host: str) -> bool:
    """Return whether this is a host's name, and no address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def host_addresses(hosts: Iterable[str], resolved: Mapping[str, Sequence[str]]) -> list[str]:
    """Return addresses alone, with those that a host has `resolved` names to; a name that it doesn't know stays one."""
    return [address for host in hosts for address in (resolved.get(host) or [host])]


def host_network(address: str) -> str:
    """Return the network that has this address alone; a name as it is."""
    return address if is_name(address) else f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def database_clients(
    databases: Iterable[Entry], hostvars: Mapping[str, Any], resolved: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Return who may connect to which database, as `postgresql_clients` has it."""
    return [
        {"database": database["name"], "user": database["owner"], "address": host_network(address)}
        for database in databases
        for address in host_addresses([host_address(database["client"], hostvars)], resolved)
    ]


def built_hosts(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return those of the hosts that have something of a site, as far as facts of them were gathered."""
    return [host for host in hosts if hostvars[host].get("ansible_facts", {}).get("built")]


def orthancs_behind_haproxy(instances: Iterable[Entry], callers: Entry) -> list[dict[str, Any]]:
    """Return what HAProxy passes on to Orthancs: to those that listen at another port (`dicom_listen_port`) than is called."""
    return [
        {
            "name": instance["name"],
            "port": instance["dicom_port"],
            "tls_port": instance.get("dicom_tls_port", 0),
            "backend": f"127.0.0.1:{instance['dicom_listen_port']}",
            "callers": callers,
        }
        for instance in instances
        if "dicom_listen_port" in instance
    ]


def orthanc_ports(instances: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return the ports of Orthancs as `preflight_ports` has them. The one that is called is HAProxy's where it stands before."""
    ports = []
    for instance in instances:
        own = f"orthanc@{instance['name']}.service"
        for key in ("dicom_port", "dicom_listen_port", "http_port"):
            if key in instance:
                unit = "haproxy.service" if key == "dicom_port" and "dicom_listen_port" in instance else own
                variable = f"orthanc_instances: {instance['name']}.{key}"
                ports.append({"port": instance[key], "variable": variable, "unit": unit, "former": own})
    return ports


def haproxy_tls_ports(services: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return the ports of DICOM TLS as `preflight_ports` has them."""
    return [
        {
            "port": service["tls_port"],
            "variable": f"haproxy_dimse_services: {service['name']}.tls_port",
            "unit": "haproxy.service",
        }
        for service in services
        if int(service.get("tls_port") or 0)
    ]


def haproxy_peer_ports(peers: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return the ports that lead to DIMSE services elsewhere as `preflight_ports` has them."""
    return [
        {"port": peer["port"], "variable": f"haproxy_dimse_peers: {peer['name']}.port", "unit": "haproxy.service"} for peer in peers
    ]


def database_peers(instances: Iterable[Entry], own_addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Return the databases of Orthancs that the site doesn't build itself, as `preflight_peers` has them."""
    databases = [instance["database"] for instance in instances if "database" in instance]
    return [
        {
            "host": database["host"],
            "port": database.get("port", 5432),
            "variable": "the host and port of its database in orthanc_instances",
        }
        for database in databases
        if database["host"] not in own_addresses
    ]


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "kept_secret": kept_secret,
            "host_address": host_address,
            "host_addresses": host_addresses,
            "only_keys": only_keys,
            "database_clients": database_clients,
            "built_hosts": built_hosts,
            "orthancs_behind_haproxy": orthancs_behind_haproxy,
            "orthanc_ports": orthanc_ports,
            "haproxy_tls_ports": haproxy_tls_ports,
            "haproxy_peer_ports": haproxy_peer_ports,
            "database_peers": database_peers,
        }
