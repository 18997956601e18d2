from __future__ import annotations

import datetime

from certificates import certificate_ends_within, certificate_problems
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def pair(first_day: int = -1, last_day: int = 90, password: bytes | None = None) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=first_day))
        .not_valid_after(now + datetime.timedelta(days=last_day))
        .sign(key, hashes.SHA256())
    )
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def test_pair_that_belongs_together() -> None:
    assert certificate_problems(*pair()) == []


def test_problems_are_named() -> None:
    certificate, key = pair()
    assert "another certificate" in certificate_problems(certificate, pair()[1])[0]
    assert "expired" in certificate_problems(*pair(-9, -2))[0]
    assert "valid only from" in certificate_problems(*pair(2, 9))[0]
    assert "encrypted" in certificate_problems(*pair(password=b"x"))[0]
    assert "not a certificate" in certificate_problems("nonsense", key)[0]
    assert "not a private key" in certificate_problems(certificate, "nonsense")[0]


def test_end_that_is_near() -> None:
    assert certificate_ends_within(pair(last_day=10)[0], 30)
    assert not certificate_ends_within(pair(last_day=60)[0], 30)
