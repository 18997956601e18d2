"""Which addresses are nobody's but the host's own."""

from __future__ import annotations

import pytest
from addresses import all_on_loopback, host_port


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


def test_an_address_of_ipv6_has_brackets_where_a_port_follows() -> None:
    assert [host_port(host, 443) for host in ("10.0.0.1", "fd00::1", "db.example")] == [
        "10.0.0.1:443",
        "[fd00::1]:443",
        "db.example:443",
    ]
