"""The play itself: bad settings stop it before anything is changed, and a built host is left alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hosts import CONTROL_NODE, not_refused, play
from pki import pair

LIMIT = "--limit=debian13,localhost"
AWAY = {"host": CONTROL_NODE, "port": 9, "name": "o", "user": "o", "password": "p"}
FIRST = {"name": "main", "aet": "ORTHANC", "dicom_port": 4242, "dicom_listen_port": 14242, "http_port": 8042}

# What is set, and what the message must say: the variable, and what is wrong with it.
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "port that is taken": ({"nginx_http_port": 22}, ["Port 22", "is held by", "nginx_http_port"]),
    "one port twice": ({"nginx_http_port": 9443}, ["nginx_http_port", "9443"]),
    "unknown system": ({"__preflight_supported": ["Debian-11"]}, ["runs Debian 13", "Debian-11"]),
    "too little disk": ({"preflight_disk_mb": 999_999_999}, ["preflight_disk_mb"]),
    "too little memory": ({"preflight_memory_mb": 999_999_999}, ["preflight_memory_mb"]),
    "one AE title twice": (
        {"orthanc_instances": [FIRST, {**FIRST, "name": "b", "dicom_port": 4300, "http_port": 8300}]},
        ["orthanc_instances", "aet ORTHANC"],
    ),
    "one port for two instances": (
        {"orthanc_instances": [FIRST, {**FIRST, "name": "b", "aet": "B", "http_port": 8300}]},
        ["orthanc_instances", "4242 is given twice"],
    ),
    "AE title too long": ({"orthanc_instances": [{**FIRST, "aet": "X" * 17}]}, ["orthanc_instances", "1 to 16"]),
    "misspelled option": ({"orthanc_settings": {"StorageCompresion": True}}, ["orthanc_settings", "StorageCompression"]),
    "misspelled option of the plugin": (
        {"orthanc_settings": {"DicomWeb": {"EnableWadoo": True}}},
        ["DicomWeb.EnableWadoo", "did you mean EnableWado"],
    ),
    "misspelled variable": ({"nginx_htps_port": 9444}, ["nginx_htps_port", "did you mean nginx_https_port"]),
    "misspelled setting of the site": ({"site_dicom_network": []}, ["site_dicom_network", "did you mean site_dicom_networks"]),
    "text for a list, beside the inventory": ({"site_web_networks": "10.0.0.0/8"}, ["site_web_networks", "write a list"]),
    "wrong type": ({"nginx_https_port": "secure"}, ["nginx_https_port", "int"]),
    "unknown choice": ({"nginx_access": "basci"}, ["nginx_access", "basic"]),
    "database that doesn't answer": (
        {"orthanc_instances": [{**FIRST, "database": AWAY}]},
        [f"can't reach {CONTROL_NODE}:9", "orthanc_instances"],
    ),
    "nobody says who may come in": ({"nginx_access": ""}, ["who may come in", "client_certificate"]),
    "an administrator's interface for all": ({"nginx_orthanc_explorer": True}, ["nginx_orthanc_explorer", "deletes"]),
    "an origin with a path": ({"nginx_cors_origins": ["https://viewer.example/"]}, ["https://viewer.example/", "no origin"]),
    "a caller from nowhere": ({"site_dicom_callers": {"CT1": ["10.1"]}}, ["10.1", "no network"]),
    "addresses that Orthanc can't see": ({"orthanc_settings": {"DicomCheckModalityHost": True}}, ["site_dicom_callers"]),
    "access without users": ({"nginx_access": "basic", "nginx_http": "off"}, ["nginx_users"]),
    "access over plain HTTP": ({"nginx_access": "basic", "nginx_users": {"a": "b"}}, ["nginx_http", "redirect"]),
    "network that is none": ({"site_dicom_networks": ["10.0.0.0/99"]}, ["10.0.0.0/99", "site_dicom_networks"]),
    "firewall that locks SSH out": ({"host_firewall_ssh_ports": [2222]}, ["host_firewall_ssh_ports", "22"]),
    "other PostgreSQL than the installed": ({"postgresql_version": "16"}, ["postgresql_version", "17"]),
    "HTTPS where it ends Orthanc": (
        {"orthanc_instances": [{**FIRST, "certificate": "/a", "certificate_key": "/b"}]},
        ["orthanc_instances", "1.12.7"],
    ),
    "archive open to the network": ({"orthanc_instances": [{**FIRST, "http_remote": True}]}, ["http_remote", "users"]),
}


def said(output: str) -> str:
    """Return the output on one line: messages are wrapped at the terminal's width."""
    return re.sub(r"\s+", " ", output)


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    assert not_refused(REFUSED.values(), LIMIT) == []


@pytest.mark.parametrize(("days", "other_key", "word"), [(-1, False, "expired"), (30, True, "belongs to another")])
def test_certificate_that_cant_be_served(days: int, other_key: bool, word: str, tmp_path: Path) -> None:
    made = pair(first_day=-9, last_day=days)
    certificate, key = made.saved(tmp_path, "site")
    if other_key:
        _, key = pair().saved(tmp_path, "other")
    settings = {"nginx_certificate_source": "files", "nginx_certificate": certificate, "nginx_certificate_key": key}
    ended = play("site.yml", LIMIT, "-e", json.dumps(settings))
    assert ended.returncode == 2
    assert "nginx_certificate" in said(ended.stdout)
    assert word in said(ended.stdout)
    assert re.search(r"debian13 +: .*changed=0 ", ended.stdout)


def test_what_may_still_surprise_is_said(tmp_path: Path) -> None:
    """Options that the installed version doesn't read, and a certificate that ends soon."""
    certificate, key = pair(last_day=20).saved(tmp_path, "site")
    settings = {
        "orthanc_settings": {"DicomWeb": {"StowMaxInstances": 10, "OtherBinaryMode": "BulkDataUri"}, "ReadOnly": False},
        "nginx_certificate_source": "files",
        "nginx_certificate": certificate,
        "nginx_certificate_key": key,
    }
    ended = play("site.yml", "--check", "-e", json.dumps(settings))
    told = said(ended.stdout + ended.stderr)
    assert ended.returncode == 0, told[-2000:]
    assert "DicomWeb.StowMaxInstances was read by the DicomWeb plugin up to 0.6" in told
    assert "DicomWeb.OtherBinaryMode is read by the DicomWeb plugin from 1.24 on" in told
    assert re.search(r"debian12: orthanc_settings: ReadOnly is read by Orthanc from 1.12.5 on", told)
    assert not re.search(r"debian13: orthanc_settings: ReadOnly", told)
    assert told.count("ends within 30 days") == 2


def test_check_mode_on_a_built_host_changes_nothing() -> None:
    ended = play("site.yml", "--check", "--diff")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert len(re.findall(r"debian1[23] +: .*changed=0 ", ended.stdout)) == 2, ended.stdout[-3000:]
    # Each role's checks were made once, before anything is built.
    checks = re.findall(r"^TASK \[(\w+) : Refuse what can't be\]", ended.stdout, re.MULTILINE)
    assert len(checks) > 4 and len(checks) == len(set(checks)), checks


@pytest.mark.parametrize("playbook", ["status", "logs", "restart"])
def test_operators_playbook_ends_well(playbook: str) -> None:
    ended = play(f"playbooks/{playbook}.yml")
    assert ended.returncode == 0, ended.stdout[-2000:]
    if playbook == "status":
        assert {"CVE-2026-10528", "notAfter", "studies"} <= set(re.findall(r"CVE-2026-10528|notAfter|studies", ended.stdout))


@pytest.mark.parametrize("arguments", [[], ["-e", "confirm=elsewhere"]], ids=["unnamed", "unknown"])
def test_reset_does_nothing_without_the_hosts_name(arguments: list[str]) -> None:
    ended = play("playbooks/reset.yml", *arguments)
    assert "changed=1" not in ended.stdout
    assert arguments or ended.returncode == 2
