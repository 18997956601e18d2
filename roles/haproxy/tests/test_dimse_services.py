from __future__ import annotations

from typing import Any

import pytest
from dimse_services import problems, title_in_request

MAIN: dict[str, Any] = {"name": "main", "port": 4242, "tls_port": 2762, "backend": "127.0.0.1:14242"}


def test_services_that_can_run_beside_each_other() -> None:
    second = {
        "name": "second",
        "port": 0,
        "tls_port": 2763,
        "backend": "127.0.0.1:1",
        "callers": {"CT 1": ["10.0.0.0/8", "fd00::/64"]},
    }
    assert problems([MAIN, second], [{"name": "pacs", "port": 11104, "peer": "pacs:2762", "ca": "/c"}]) == []


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({**MAIN, "port": 1, "tls_port": 2}, "name main"),
        ({**MAIN, "name": "b", "tls_port": 2}, "Port 4242"),
        ({**MAIN, "name": "B!", "port": 1, "tls_port": 2}, "'B!'"),
        ({**MAIN, "name": "b", "port": 70000, "tls_port": 2}, "70000 is no port"),
        ({**MAIN, "name": "b", "port": 0, "tls_port": 0}, "neither port nor tls_port"),
        ({**MAIN, "name": "b", "port": 1, "tls_port": 2, "callers": {"A\\B": []}}, "no AE title"),
        ({**MAIN, "name": "b", "port": 1, "tls_port": 2, "callers": {"A": ["10.0.0.1/8"]}}, "no network"),
    ],
)
def test_what_cannot_be_is_named(service: dict[str, Any], words: str) -> None:
    (said,) = problems([MAIN, service], [])
    assert words in said


def test_a_title_stands_padded_in_a_request() -> None:
    assert bytes.fromhex(title_in_request("CT 1")) == b"CT 1            "
