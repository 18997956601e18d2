"""Faults of the parts: what was answered with success is kept, and everything comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from datasets import Instance, of_kind, read, same
from hosts import Host
from web import DICOM, parts

PATIENCE = 90


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Return whether the condition comes to hold within so many seconds; what it raises counts as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except (AssertionError, OSError, requests.RequestException):
            pass
        time.sleep(0.5)
    return False


def served(host: Host, instance: Instance) -> bool:
    answer = host.web.get(instance.url, DICOM)
    return answer.status_code == 200 and same(read(parts(answer)[0][1]), instance.dataset)


def stored(host: Host, directory: Path) -> Instance:
    instance = of_kind("ct", directory)
    # What isn't acknowledged is sent again, as modalities do: Orthanc may be away while what reads its data answers, and it meets
    # each connection to PostgreSQL that a fault has ended once.
    assert within(PATIENCE, lambda: host.archive.tried(instance.dataset) == 0), "nothing can be stored"
    return instance


def works_again(host: Host, before: Instance, directory: Path) -> None:
    assert within(PATIENCE, lambda: served(host, before)), "what was stored before isn't served"
    assert within(PATIENCE, lambda: served(host, stored(host, directory))), "nothing new can be stored"


@pytest.mark.parametrize(
    "fault",
    [
        "systemctl restart 'postgresql@*'",
        # All of a service's processes at once, and not by its unit: in the lab's cgroups systemd may miss some.
        "pkill --signal KILL --exact postgres",
        "pkill --signal KILL --exact Orthanc",
        "pkill --signal KILL --exact nginx",
        "pkill --signal KILL --exact haproxy",
        "systemctl restart dicomweb-firewall dicomweb-quickack",
    ],
)
def test_comes_back_by_itself(host: Host, fault: str, tmp_path: Path) -> None:
    before = stored(host, tmp_path)
    host.run(fault)
    works_again(host, before, tmp_path)


def test_without_its_database_nothing_is_said_to_be_stored(host: Host, tmp_path: Path) -> None:
    before, meanwhile = stored(host, tmp_path), of_kind("mr", tmp_path)
    host.run("systemctl stop 'postgresql@*'")
    try:
        assert host.archive.tried(meanwhile.dataset) != 0
    finally:
        host.run("systemctl start $(ls /var/lib/postgresql | sed 's/.*/postgresql@&-main/')")
    works_again(host, before, tmp_path)
    assert within(PATIENCE, lambda: host.archive.store(meanwhile.dataset) == 0)
    assert within(PATIENCE, lambda: served(host, meanwhile))
