from __future__ import annotations

from certificates import certificate_ends_within, certificate_problems
from pki import pair

GOOD = pair()


def test_pair_that_belongs_together() -> None:
    assert certificate_problems(GOOD.certificate_pem, GOOD.key_pem()) == []


def test_problems_are_named() -> None:
    past, future = pair(first_day=-9, last_day=-2), pair(first_day=2, last_day=9)
    assert "another certificate" in certificate_problems(GOOD.certificate_pem, past.key_pem())[0]
    assert "expired" in certificate_problems(past.certificate_pem, past.key_pem())[0]
    assert "valid only from" in certificate_problems(future.certificate_pem, future.key_pem())[0]
    assert "encrypted" in certificate_problems(GOOD.certificate_pem, GOOD.key_pem(b"password"))[0]
    assert "not a certificate" in certificate_problems("nonsense", GOOD.key_pem())[0]
    assert "not a private key" in certificate_problems(GOOD.certificate_pem, "nonsense")[0]


def test_end_that_is_near() -> None:
    assert certificate_ends_within(pair(last_day=10).certificate_pem, 30)
    assert not certificate_ends_within(GOOD.certificate_pem, 30)
