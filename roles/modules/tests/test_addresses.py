"""Which addresses are nobody's but the host's own."""

from __future__ import annotations

import pytest
from addresses import all_on_loopback


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["127.0.0.1", "::1", "localhost", ""], True),
        (["http://127.0.0.1:8042", "http://[::1]:5000/static-dicomweb", "http://localhost/"], True),
        (["127.0.0.1", "0.0.0.0"], False),
        (["::"], False),
        (["http://archive.example:8042"], False),
        (["http://127.0.0.1.example/"], False),
        ([], True),
    ],
)
def test_what_is_on_loopback(addresses: list[str], expected: bool) -> None:
    assert all_on_loopback(addresses) is expected
