"""Servers that ask who comes: Basic authentication, a client's certificate, and a key that never leaves its token (PKCS#11)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import ct_study
from dimse_client import Modality
from hosts import Host, play
from pipeline_services import wait_for
from pki import pair

DIRECTORY = "/etc/orthanc/credentials"


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    yield
    assert play("site.yml").returncode == 0


def built(**settings: Any) -> None:
    ended = play("site.yml", "-e", json.dumps(settings))
    assert ended.returncode == 0, ended.stdout[-3000:]


def sent(host: Host, directory: Path) -> str:
    """Send a study through the pipeline and return its UID."""
    instances = ct_study(3, directory, rows=16)
    Modality(host.address, 4242, "ORTHANC1").send([instance.dataset for instance in instances])
    return str(instances[0].dataset.StudyInstanceUID)


def test_who_comes_is_asked_and_told(host: Host, tmp_path: Path) -> None:
    authority = pair("Hospital CA")
    authority_path, _ = authority.saved(tmp_path, "ca")
    certificate, key = pair("localhost", issuer=authority).saved(tmp_path, "server")
    client = pair("Gateway", issuer=authority).saved(tmp_path, "client")
    front = {"Url": "https://localhost:9443/dicom-web/", "Timeout": 60}
    common: dict[str, Any] = {
        "nginx_http": "off",
        "nginx_certificate_source": "files",
        "nginx_certificate": certificate,
        "nginx_certificate_key": key,
        "orthanc_settings": {"HttpsCACertificates": f"{DIRECTORY}/ca.crt"},
        "site_gateway_credentials": [
            {"name": "ca.crt", "source": authority_path},
            {"name": "client.crt", "source": client[0]},
            {"name": "client.key", "source": client[1]},
        ],
        "pipeline_forwarder_servers": ["front"],
    }
    users = {"gateway": "a pass:word"}

    built(
        **common,
        nginx_access="basic",
        nginx_users=users,
        site_gateway_more_servers={"front": front | {"Username": "gateway", "Password": "no"}},
    )
    study = sent(host, tmp_path)
    wait_for(lambda: "front refuses the user or the certificate (401)" in host.run("pipeline-monitor status"))
    assert not host.run(f"find /var/lib/received_dicom -path '*/{study}/*.dcm'")

    built(
        **common,
        nginx_access="basic",
        nginx_users=users,
        site_gateway_more_servers={"front": front | {"Username": "gateway", "Password": users["gateway"]}},
    )
    wait_for(lambda: len(host.run(f"find /var/lib/received_dicom -path '*/{study}/*.dcm'").split()) == 3)
    assert "gateway POST /dicom-web/studies 200" in host.run("journalctl --unit=nginx --since=-5min --output=cat | cat")

    own = {
        "CertificateFile": f"{DIRECTORY}/client.crt",
        "CertificateKeyFile": f"{DIRECTORY}/client.key",
        "CertificateKeyPassword": "",
    }
    demanding: dict[str, Any] = {"nginx_access": "client_certificate", "nginx_client_ca": authority_path}
    card = {"card": front | {"Pkcs11": True}}
    built(**common, **demanding, site_gateway_more_servers={"front": front | own} | card)
    study = sent(host, tmp_path)
    wait_for(lambda: len(host.run(f"find /var/lib/received_dicom -path '*/{study}/*.dcm'").split()) == 3)

    # Debian builds Orthanc without PKCS#11: it says so, and nothing is sent without the token.
    built(**(common | {"pipeline_forwarder_servers": ["card"]}), **demanding, site_gateway_more_servers=card)
    study = sent(host, tmp_path)
    wait_for(lambda: "card" in host.run("pipeline-monitor status"))
    assert "compiled without support for PKCS#11" in host.run("journalctl --unit=orthanc@gateway --since=-5min --output=cat | cat")
    assert not host.run(f"find /var/lib/received_dicom -path '*/{study}/*.dcm'")
