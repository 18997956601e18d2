"""DICOMweb over an Orthanc's data, as a process of its own, for the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from orthanc_server import PLUGIN, OrthancServer
from servers import SOURCES, Postgres, free_port, stop, wait_for_answer

INDEX_PLUGIN = PLUGIN.parent / "libOrthancPostgreSQLIndex.so"
JSON = "application/dicom+json"
AS_STORED = "application/dicom; transfer-syntax=*"


def indexed_orthanc(directory: Path, postgres: Postgres, database: str, **settings: Any) -> OrthancServer:
    """Return an Orthanc whose index is in a database of its own."""
    assert INDEX_PLUGIN.exists(), "install Orthanc's plugin for PostgreSQL (apt-get install orthanc-postgresql)"
    postgres.make_database(database)
    return OrthancServer(
        directory,
        "ARCHIVE",
        Plugins=[str(PLUGIN), str(INDEX_PLUGIN)],
        PostgreSQL={
            "EnableIndex": True,
            "EnableStorage": False,
            "ConnectionUri": f"postgresql://postgres@/{database}?host={postgres.directory}",
            "Lock": False,
        },
        DefaultEncoding="Utf8",
        # What it has in its memory would hide that a file is lost.
        MaximumStorageCacheSize=0,
        **settings,
    )


class ArchiveService:
    """The service, over an Orthanc and its database."""

    def __init__(self, directory: Path, orthanc: OrthancServer, database_uri: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self.log = directory / "service.log"
        self._settings = {
            "ARCHIVE_DICOMWEB_PORT": str(self.port),
            "ARCHIVE_DICOMWEB_DATABASE_URI": database_uri,
            "ARCHIVE_DICOMWEB_STORAGE": str(orthanc.directory),
            "ARCHIVE_DICOMWEB_ORTHANC_URL": orthanc.url,
            "ARCHIVE_DICOMWEB_WORK_DIRECTORY": str(directory / "work"),
            "ARCHIVE_DICOMWEB_METADATA_DIRECTORY": str(directory / "metadata"),
            "PYTHONPATH": str(SOURCES),
            **settings,
        }
        self.start()

    def beside(self, directory: Path, **settings: str) -> ArchiveService:
        """Return another one over the same, with other settings."""
        made = ArchiveService.__new__(ArchiveService)
        made.port = free_port()
        made.url = f"http://127.0.0.1:{made.port}/dicom-web"
        made.log = directory / "service.log"
        own = {
            "ARCHIVE_DICOMWEB_PORT": str(made.port),
            "ARCHIVE_DICOMWEB_WORK_DIRECTORY": str(directory / "work"),
            "ARCHIVE_DICOMWEB_METADATA_DIRECTORY": str(directory / "metadata"),
        }
        made._settings = self._settings | own | settings
        made.start()
        return made

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIVE_", "PROMETHEUS_"))}
        with self.log.open("a") as log:
            command = [sys.executable, "-m", "archive_dicomweb"]
            self.process = subprocess.Popen(command, env=kept | self._settings, stderr=log)
        wait_for_answer(self.process, self.log, lambda: requests.get(self.url.replace("/dicom-web", "/metrics"), timeout=30))

    def health(self) -> requests.Response:
        return requests.get(self.url.replace("/dicom-web", "/health"), timeout=60)

    def stop(self) -> None:
        stop(self.process, self.log)

    def get(self, path: str, accept: str = "*/*", **options: Any) -> requests.Response:
        headers = {"Accept": accept} | options.pop("headers", {})
        return requests.get(f"{self.url}{path}", headers=headers, timeout=60, **options)

    def found(self, path: str) -> list[dict[str, Any]]:
        answer = self.get(path, JSON)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else []

    def post(self, body: Any, content_type: str, path: str = "/studies") -> requests.Response:
        return requests.post(f"{self.url}{path}", data=body, headers={"Content-Type": content_type, "Accept": JSON}, timeout=120)
