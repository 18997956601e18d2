"""The OHIF viewer in a real browser opens studies of the archive, also of JPEG 2000, which Orthanc's plugin doesn't decode."""

from __future__ import annotations

from pathlib import Path

import ohif
import pytest
from archive_service import ArchiveService
from datasets import Instance
from nginx_server import Nginx


@pytest.mark.parametrize("kind", ["ct", "mr-jpeg-2000"])
def test_it_shows_a_study(archive: ArchiveService, stored: dict[str, Instance], kind: str, tmp_path: Path) -> None:
    ohif.configure(tmp_path, "/dicom-web")
    nginx = Nginx(tmp_path, tmp_path / "tree", viewer=str(ohif.OHIF), archive=archive.url)
    try:
        ohif.shows(nginx, stored[kind], tmp_path)
    finally:
        nginx.stop()
