"""The sender, against a real Orthanc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from datasets import KINDS, of_kind
from orthanc_server import OrthancServer
from servers import SOURCES


def send(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dimse.send", *map(str, arguments)]
    return subprocess.run(command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def archive(tmp_path_factory: pytest.TempPathFactory) -> OrthancServer:
    return OrthancServer(tmp_path_factory.mktemp("archive"), "ARCHIVE")


def test_a_directory_of_every_kind(archive: OrthancServer, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for number, kind in enumerate(KINDS):
        of_kind(kind, tmp_path / "inner" if number % 2 else tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM")
    ended = send("--called", archive.aet, "127.0.0.1", archive.dicom_port, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"{len(KINDS)} stored, 0 not stored, 1 left out" in ended.stderr and "notes.txt: no DICOM file" in ended.stderr
    assert archive.instance_count() == len(KINDS)
    archive.stop()


def test_a_file_that_breaks_off_is_named_and_the_others_pass(archive: OrthancServer, tmp_path: Path) -> None:
    paths = [of_kind("ct", tmp_path).path for _ in range(3)]
    middle = sorted(paths)[1]
    middle.write_bytes(middle.read_bytes()[:1500])
    ended = send("--called", archive.aet, "127.0.0.1", archive.dicom_port, tmp_path)
    assert ended.returncode == 1
    assert "2 stored, 1 not stored" in ended.stderr and f"{middle}: " in ended.stderr and "Traceback" not in ended.stderr
    assert archive.instance_count() == 2
    archive.stop()


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    of_kind("ct", tmp_path)
    ended = send("127.0.0.1", 9, tmp_path)
    assert ended.returncode == 1 and "ORTHANC1 at 127.0.0.1:9 doesn't answer" in ended.stderr
