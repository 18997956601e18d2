"""One Orthanc with its index in PostgreSQL, and the service over its data, for all tests of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_service import ArchiveService, indexed_orthanc
from datasets import KINDS, Instance, of_kind
from orthanc_server import OrthancServer
from servers import Postgres


@pytest.fixture(scope="session")
def orthanc(postgres: Postgres) -> Iterator[OrthancServer]:
    with tempfile.TemporaryDirectory() as directory:
        made = indexed_orthanc(Path(directory), postgres, "archive")
        yield made
        made.stop()


@pytest.fixture(scope="session")
def archive(orthanc: OrthancServer, postgres: Postgres) -> Iterator[ArchiveService]:
    with tempfile.TemporaryDirectory() as directory:
        made = ArchiveService(Path(directory), orthanc, postgres.uri("archive"))
        yield made
        made.stop()
        assert not list((Path(directory) / "work").iterdir())


@pytest.fixture(scope="session")
def stored(orthanc: OrthancServer) -> Iterator[dict[str, Instance]]:
    """Objects that the archive has, by kind."""
    with tempfile.TemporaryDirectory() as directory:
        made = {kind: of_kind(kind, Path(directory)) for kind in KINDS}
        for instance in made.values():
            answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
            answer.raise_for_status()
        yield made
