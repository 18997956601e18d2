"""Access control as a choice: Basic and client certificates, shown with verify.yml, then back to none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hosts import Host, play
from pki import pair

LIMIT = "--limit=debian13,localhost"
# What the change concerns: nginx, and the port that its host's firewall has open.
TAGS = "--tags=nginx,host"


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    yield
    assert play("site.yml", LIMIT, TAGS).returncode == 0


@pytest.fixture
def site(by_name: dict[str, Host]) -> Host:
    return by_name["debian13"]


def built_and_verified(**settings: Any) -> None:
    for playbook, *tags in (("site.yml", TAGS), ("playbooks/verify.yml",)):
        ended = play(playbook, LIMIT, *tags, "-e", json.dumps(settings))
        assert ended.returncode == 0, ended.stdout[-3000:]


def status(session: requests.Session, url: str, **options: Any) -> int:
    session.trust_env = False
    return session.get(url, timeout=30, allow_redirects=False, **{"verify": False, **options}).status_code


def test_basic_with_redirect(site: Host) -> None:
    built_and_verified(nginx_access="basic", nginx_http="redirect", nginx_users={"ada": "a pass:word"})
    url = f"https://{site.address}:9443/dicom-web/studies?limit=1"
    assert status(requests.Session(), url) == 401
    assert status(requests.Session(), url, auth=("ada", "wrong")) == 401
    assert status(requests.Session(), url, auth=("ada", "a pass:word")) in (200, 204)
    plain = requests.Session()
    assert status(plain, f"http://{site.address}:9080/dicom-web/studies") == 308
    assert "a pass:word" not in site.run("cat /etc/nginx/users")


def test_client_certificates_without_http(site: Host, tmp_path: Path) -> None:
    authority = pair("Hospital CA")
    authority_path, _ = authority.saved(tmp_path, "ca")
    client = pair("Viewer", issuer=authority).saved(tmp_path, "client")
    built_and_verified(
        nginx_access="client_certificate",
        nginx_http="off",
        nginx_client_ca=authority_path,
        verify_client_certificate=client[0],
        verify_client_key=client[1],
    )
    url = f"https://{site.address}:9443/dicom-web/studies?limit=1"
    assert status(requests.Session(), url) == 400
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=30, verify=False, cert=client)
    assert answer.status_code in (200, 204)
    assert answer.headers["Strict-Transport-Security"]
    with pytest.raises(requests.ConnectionError):
        status(requests.Session(), f"http://{site.address}:9080/dicom-web/studies")
