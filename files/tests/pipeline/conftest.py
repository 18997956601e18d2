"""A gateway and a storage for all tests of a run; a forwarder and a monitor for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from orthanc_server import OrthancServer
from pipeline_services import MONITOR_PORT, Running, Tree


@pytest.fixture(scope="session")
def storage() -> Iterator[OrthancServer]:
    with tempfile.TemporaryDirectory() as directory:
        modality = {"AET": "PYTHON_SCP", "Host": "127.0.0.1", "Port": MONITOR_PORT}
        made = OrthancServer(Path(directory), "STORAGE", DicomModalities={"monitor": modality}, DicomWeb={"Enable": True})
        yield made
        made.stop()


@pytest.fixture(scope="session")
def gateway(storage: OrthancServer) -> Iterator[OrthancServer]:
    with tempfile.TemporaryDirectory() as directory:
        servers = {
            "storage": {"Url": f"{storage.url}/dicom-web/", "ChunkedTransfers": True},
            "nowhere": {"Url": "http://127.0.0.1:9/dicom-web/"},
        }
        made = OrthancServer(Path(directory), "GATEWAY", DicomWeb={"Enable": True, "Servers": servers})
        yield made
        made.stop()


@pytest.fixture
def forwarder(gateway: OrthancServer, storage: OrthancServer, tmp_path: Path) -> Iterator[Running]:
    made = Running("pipeline_forwarder", tmp_path, GATEWAY_URL=gateway.url, KEEP_DAYS=-1)
    yield made
    made.stop()
    gateway.delete_all()
    storage.delete_all()
    assert not made.log.exists() or not made.said("Traceback"), made.log.read_text()


@pytest.fixture
def monitor(storage: OrthancServer, forwarder: Running, tmp_path: Path) -> Iterator[Running]:
    made = Running(
        "pipeline_monitor",
        tmp_path,
        STORAGE_URL=storage.url,
        STORAGE_AET=storage.aet,
        STORAGE_PORT=storage.dicom_port,
        MONITOR_HOST="127.0.0.1",
        MONITOR_PORT=MONITOR_PORT,
        OUTPUT_DIR=tmp_path / "tree",
        FORWARDER_URL=forwarder.url,
        RESERVE_MEGABYTES=1,
    )
    yield made
    made.stop()
    assert not made.log.exists() or not made.said("Traceback"), made.log.read_text()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")
