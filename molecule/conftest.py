"""Fixtures of all scenarios."""

from __future__ import annotations

import pytest
import steady_associations
from hosts import HOSTS, Host

steady_associations.everywhere()


@pytest.fixture(params=HOSTS, ids=lambda host: host.name, scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    return request.param


@pytest.fixture(scope="session")
def by_name() -> dict[str, Host]:
    return {host.name: host for host in HOSTS}
