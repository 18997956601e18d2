"""One database server and one worklist service for all tests of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import steady_associations
from hypothesis import HealthCheck, settings
from servers import Postgres, Service
from worklist_client import Client

steady_associations.everywhere()

# The same examples on every machine, however slow it is.
settings.register_profile(
    "site", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("site")


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB, which tests may have grow."""
    if os.geteuid():
        pytest.skip("mounts a file system")
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
