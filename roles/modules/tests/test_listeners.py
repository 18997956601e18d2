from __future__ import annotations

from typing import Any

from listeners import holders, repeated, with_ports

PORTS: list[dict[str, Any]] = [
    {"port": "8042", "unit": "orthanc@main.service"},
    {"port": 5432, "unit": "postgresql*"},
    {"port": 9443, "unit": "nginx.service"},
]


def test_who_holds_each_port() -> None:
    found = holders(PORTS, {"8042": "stray.service", "5432": "postgresql@17-main.service"})
    assert [(each["holder"], each["right"]) for each in found] == [
        ("stray.service", False),
        ("postgresql@17-main.service", True),
        ("nobody", False),
    ]


def test_units_have_their_ports() -> None:
    assert with_ports(["nginx.service", "haproxy.service"], PORTS) == [
        {"name": "nginx.service", "ports": [9443]},
        {"name": "haproxy.service", "ports": []},
    ]


def test_a_port_is_one_services() -> None:
    """HAProxy stands at the port that an inventory may still give to what listens behind it."""
    ports: list[dict[str, Any]] = [
        {"port": "8888", "variable": "dicomweb_proxy_dicom_port"},
        {"port": 8888, "variable": "site_proxy_dicom_port"},
    ]
    assert repeated([*ports, {"port": 1, "variable": "other"}]) == [
        {"port": 8888, "variables": ["dicomweb_proxy_dicom_port", "site_proxy_dicom_port"]}
    ]
