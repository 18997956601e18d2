"""One database server and one worklist service for all tests of a run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Postgres, Service
from worklist_client import Client


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    made = Postgres(directory)
    yield made
    made.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def service(postgres: Postgres) -> Iterator[Service]:
    made = Service(postgres.make_database("service"), PYUPSRS_LOG_LEVEL="debug")
    yield made
    made.stop()


@pytest.fixture
def client(service: Service) -> Client:
    return Client(service.url)
