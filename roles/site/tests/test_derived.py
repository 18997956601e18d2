"""How the roles' variables follow from the groups, and what settings are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from derived import (
    built_hosts,
    database_clients,
    database_peers,
    haproxy_tls_ports,
    host_address,
    host_addresses,
    kept_secret,
    only_keys,
    orthanc_ports,
    orthancs_behind_haproxy,
)
from site_settings import typed, unfit

HOSTVARS: dict[str, dict[str, Any]] = {
    "db": {"site_address": "fd00:10::2", "ansible_host": "10.0.0.2"},
    "archive": {"ansible_host": "10.0.0.3", "ansible_facts": {"built": True}},
    "web": {},
}


def test_a_host_is_reached_by_what_the_inventory_says() -> None:
    assert [host_address(name, HOSTVARS) for name in HOSTVARS] == ["fd00:10::2", "10.0.0.3", "web"]


def test_a_host_that_is_not_there() -> None:
    assert host_address("", HOSTVARS) == ""
    with pytest.raises(ValueError, match="webb is no host of the inventory"):
        host_address("webb", HOSTVARS)


def test_names_become_the_addresses_that_the_host_knows() -> None:
    assert host_addresses(["10.0.0.3", "web", "lost"], {"web": ["10.0.0.4", "fd00::4"], "lost": []}) == [
        "10.0.0.3",
        "10.0.0.4",
        "fd00::4",
        "lost",
    ]


@pytest.mark.parametrize(
    ("client", "networks"),
    [("db", ["fd00:10::2/128"]), ("archive", ["10.0.0.3/32"]), ("web", ["10.0.0.4/32", "fd00::4/128"])],
)
def test_a_client_of_the_database_is_one_address(client: str, networks: list[str]) -> None:
    databases = [{"name": "orthanc", "owner": "it", "client": client}]
    clients = database_clients(databases, HOSTVARS, {"web": ["10.0.0.4", "fd00::4"]})
    assert clients == [{"database": "orthanc", "user": "it", "address": network} for network in networks]


def test_built_hosts_are_those_whose_facts_say_so() -> None:
    assert built_hosts(["db", "archive", "web"], HOSTVARS) == ["archive"]


def test_a_password_is_what_was_kept(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("secret\n")
    (tmp_path / "salted").write_text("secret salt=abc\n")
    (tmp_path / "empty").write_text("")
    assert [kept_secret(str(tmp_path), name) for name in ("plain", "salted", "empty", "missing")] == [
        "secret",
        "secret",
        None,
        None,
    ]


def test_what_stands_before_orthanc_has_its_port() -> None:
    behind = {"name": "main", "dicom_port": 4242, "dicom_listen_port": 14242, "dicom_tls_port": 2762, "http_port": 8042}
    alone = {"name": "other", "dicom_port": 4243, "http_port": 8043}
    (service,) = orthancs_behind_haproxy([behind, alone], {"CT1": ["10.0.0.0/8"]})
    assert (service["name"], service["port"], service["backend"]) == ("main", 4242, "127.0.0.1:14242")
    units = {port["port"]: port["unit"] for port in orthanc_ports([behind, alone])}
    assert units == {
        4242: "haproxy.service",
        14242: "orthanc@main.service",
        8042: "orthanc@main.service",
        4243: "orthanc@other.service",
        8043: "orthanc@other.service",
    }
    assert [port["port"] for port in haproxy_tls_ports([service, {"name": "x", "tls_port": "0"}])] == [2762]


def test_peers_are_databases_of_others() -> None:
    instances: list[dict[str, Any]] = [{"database": {"host": "127.0.0.1"}}, {"database": {"host": "pg.example", "port": 6000}}, {}]
    assert [(peer["host"], peer["port"]) for peer in database_peers(instances, ["127.0.0.1"])] == [("pg.example", 6000)]


def test_only_keys_that_are_asked() -> None:
    assert only_keys([{"name": "a", "password": "b", "client": "c"}], ["name", "password"]) == [{"name": "a", "password": "b"}]


@pytest.mark.parametrize(
    ("value", "option", "expected"),
    [
        (17, {"type": "str"}, "17"),
        ("10.20.0.0/16", {"type": "list", "elements": "str"}, ["10.20.0.0/16"]),
        ("10.0.0.0/8, fd00::/8", {"type": "list", "elements": "str"}, ["10.0.0.0/8", "fd00::/8"]),
        (True, {"type": "str", "choices": ["on", "off", "redirect"]}, "on"),
        (False, {"type": "str", "choices": ["on", "off", "redirect"]}, "off"),
        ("false", {"type": "bool"}, False),
        ("8042", {"type": "int"}, 8042),
        # What can't be turned stays, for the preflight to refuse.
        ("many", {"type": "int"}, "many"),
        ("ada:hidden", {"type": "list", "elements": "dict"}, "ada:hidden"),
        ("x", {"type": "dict"}, "x"),
        (None, {"type": "str"}, None),
        (["a"], {"type": "str"}, ["a"]),
    ],
)
def test_a_setting_is_turned_into_its_type(value: Any, option: dict[str, Any], expected: Any) -> None:
    turned = typed(value, option)
    assert turned == expected and type(turned) is type(expected)


@pytest.mark.parametrize(
    ("value", "option", "said"),
    [
        (None, {"type": "list"}, "site_it has no value: write [] for none"),
        (None, {"type": "str"}, ""),
        ("x", {"type": "int"}, "site_it"),
        ("plugin", {"type": "str", "choices": ["orthanc", "own"]}, "site_it must be one of: orthanc, own"),
        (4242, {"type": "int"}, ""),
    ],
)
def test_a_setting_of_the_site_that_can_not_be_is_named_itself(value: Any, option: dict[str, Any], said: str) -> None:
    assert said in unfit("site_it", value, option)
    assert bool(said) == bool(unfit("site_it", value, option))
