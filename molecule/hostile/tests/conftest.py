"""Ordinary clients beside each test, and what must hold for them and for the services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import HOSTS, Host
from ordinary import OrdinaryClients
from processor import Used, share_left
from site_services import services

# The slowest answer that an ordinary client may get, in seconds, on a machine that has nothing else to do. Where it has, the host
# gets what is left of the processor, and an answer may take as many times longer, at most so many.
SLOWEST, MOST_LEFT_OUT = 2.0, 8
# What a service's processes may grow by over one test, in MB: a deflated instance is read twice, 256 MB each time.
GROWTH = 700


@pytest.fixture(scope="session")
def host() -> Host:
    return HOSTS[0]


@pytest.fixture(scope="session")
def clients(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdinaryClients]:
    """Ordinary clients from the first test to the last; what they were told is stored is there then."""
    made = OrdinaryClients(host, tmp_path_factory.mktemp("ordinary"))
    with made.at_work():
        yield made
    assert made.stored and made.workitems
    assert not made.lost()


@pytest.fixture(autouse=True)
def others_are_not_affected(host: Host, clients: OrdinaryClients) -> Iterator[None]:
    services(host)
    before, used = services(host), Used.now(host.name)
    yield
    answers = clients.answers(used.moment)
    slowest = SLOWEST / max(share_left(used, Used.now(host.name)), 1 / MOST_LEFT_OUT)
    after = services(host)
    problems = {f"{answer.kind}: {answer.problem}" for answer in answers if answer.problem}
    assert not problems
    late = {answer.kind: round(answer.seconds, 2) for answer in answers if answer.seconds > slowest}
    assert not late, f"slower than {slowest:.1f} s"
    assert {unit: (service.main_process, service.restarts) for unit, service in after.items()} == {
        unit: (service.main_process, service.restarts) for unit, service in before.items()
    }
    grown = {unit: round(service.peak_memory - before[unit].peak_memory) for unit, service in after.items()}
    print(
        "slowest answer",
        round(max(answer.seconds for answer in answers), 2),
        f"of {slowest:.1f} s; MB grown",
        {u: mb for u, mb in grown.items() if mb > 5},
    )
    assert max(grown.values()) < GROWTH, grown
    assert all(service.peak_memory < service.most_memory for service in after.values()), after
