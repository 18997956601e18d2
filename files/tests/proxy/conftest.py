"""One archive with objects of many kinds for all tests of a run, and proxies before it: by C-GET and by C-MOVE."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import KINDS, Instance, of_kind
from orthanc_server import OrthancServer
from proxy_server import Proxy, dimse_archive
from servers import free_port

MOVE_PORT = free_port()


@pytest.fixture(scope="session")
def archive() -> Iterator[OrthancServer]:
    with tempfile.TemporaryDirectory() as directory:
        made = dimse_archive(Path(directory), "ARCHIVE", MOVE_PORT)
        yield made
        made.stop()


@pytest.fixture(scope="session")
def stored(archive: OrthancServer) -> Iterator[dict[str, Instance]]:
    """Objects that the archive has, by kind."""
    with tempfile.TemporaryDirectory() as directory:
        made = {kind: of_kind(kind, Path(directory)) for kind in KINDS}
        for instance in made.values():
            answer = archive.session.post(f"{archive.url}/instances", data=instance.path.read_bytes(), timeout=60)
            answer.raise_for_status()
        yield made


@pytest.fixture(scope="session")
def by_get(archive: OrthancServer) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory() as directory:
        made = Proxy(Path(directory), [("ARCHIVE", archive.dicom_port)], enableCache=False)
        yield made
        made.stop()


@pytest.fixture(scope="session")
def by_move(archive: OrthancServer) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory() as directory:
        peers = [("ARCHIVE", archive.dicom_port)]
        made = Proxy(Path(directory), peers, enableCache=False, useCget=False, dicom_port=MOVE_PORT)
        yield made
        made.stop()


@pytest.fixture(params=["get", "move"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """The proxy, by one service and by the other."""
    made: Proxy = request.getfixturevalue(f"by_{request.param}")
    return made
