"""Access control as a choice: Basic and client certificates, shown with verify.yml, then back to none."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hosts import Host, play

LIMIT = "--limit=debian13,localhost"


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    yield
    assert play("site.yml", LIMIT).returncode == 0


@pytest.fixture
def site(by_name: dict[str, Host]) -> Host:
    return by_name["debian13"]


def built_and_verified(**settings: Any) -> None:
    for playbook in ("site.yml", "playbooks/verify.yml"):
        ended = play(playbook, LIMIT, "-e", json.dumps(settings))
        assert ended.returncode == 0, ended.stdout[-3000:]


def status(session: requests.Session, url: str, **options: Any) -> int:
    session.trust_env = False
    return session.get(url, timeout=3, allow_redirects=False, **{"verify": False, **options}).status_code


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
    authority_key, authority = certificate("Hospital CA", None, None)
    key, client = certificate("Viewer", authority_key, authority)
    (tmp_path / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "client.crt").write_bytes(client.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "client.key").write_bytes(private)
    pair = (str(tmp_path / "client.crt"), str(tmp_path / "client.key"))
    built_and_verified(
        nginx_access="client_certificate",
        nginx_http="off",
        nginx_client_ca=str(tmp_path / "ca.crt"),
        verify_client_certificate=pair[0],
        verify_client_key=pair[1],
    )
    url = f"https://{site.address}:9443/dicom-web/studies?limit=1"
    assert status(requests.Session(), url) == 400
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=3, verify=False, cert=pair)
    assert answer.status_code in (200, 204)
    assert answer.headers["Strict-Transport-Security"]
    with pytest.raises(requests.ConnectionError):
        status(requests.Session(), f"http://{site.address}:9080/dicom-web/studies")


def certificate(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None, issuer: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return a key and its certificate, signed by the issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    return key, builder.sign(issuer_key or key, hashes.SHA256())
