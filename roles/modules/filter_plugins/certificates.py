"""Filters on certificates in PEM form, for checks on the control node."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization


def certificate_problems(certificate: str, key: str = "") -> list[str]:
    """Return why nginx couldn't serve this certificate with this key, a line each; none when it can."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return ["it is not a certificate in PEM form"]
    problems = []
    now = datetime.now(timezone.utc)
    if parsed.not_valid_after_utc <= now:
        problems.append(f"it expired on {parsed.not_valid_after_utc:%Y-%m-%d}")
    if parsed.not_valid_before_utc > now:
        problems.append(f"it is valid only from {parsed.not_valid_before_utc:%Y-%m-%d} on")
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        return [*problems, "its key is encrypted, and nginx couldn't open it"]
    except ValueError:
        return [*problems, "its key is not a private key in PEM form"]
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*encoding) != parsed.public_key().public_bytes(*encoding):
        problems.append("the key belongs to another certificate")
    return problems


def certificate_ends_within(certificate: str, days: int) -> bool:
    """Return whether the certificate ends within so many days."""
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    return parsed.not_valid_after_utc <= datetime.now(timezone.utc) + timedelta(days=days)


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"certificate_problems": certificate_problems, "certificate_ends_within": certificate_ends_within}
