"""A file that crashes its decoder costs itself, by each way into the tree, and none beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from datasets import Instance, ct_study
from pipeline_services import wait_for
from receiver import Receiver
from servers import stop, with_sources
from static_server import JSON, Server

# No decoder of today is known to crash: a real crash where the thumbnail of one instance is rendered.
CRASH = """
import ctypes
import dicomweb.pixels
rendered = dicomweb.pixels.rendered
def rendered_or_not(dataset, *given, **named):
    if dataset.PatientID == "CRASH":
        ctypes.string_at(0)
    return rendered(dataset, *given, **named)
dicomweb.pixels.rendered = rendered_or_not
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Instance]:
    """Instances of a study, of which the third one crashes."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(CRASH)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/path")
    made = ct_study(20, tmp_path, rows=16)
    made[2].dataset.PatientID = "CRASH"
    made[2].dataset.save_as(made[2].path)
    return made


def rendered(root: Path) -> set[str]:
    return {path.name for path in root.glob("instances/*/[0-9]*/*")}


def others(study: list[Instance]) -> set[str]:
    return {instance.dataset.SOPInstanceUID for instance in study if instance is not study[2]}


def test_mkdicomweb(study: list[Instance], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(tmp_path / "tree"), "create", "--processes", "2"]
    files = [str(instance.path) for instance in study]
    done = subprocess.run([*command, *files], env=with_sources(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"{study[2].path}: what decodes it crashed" in done.stderr
    assert rendered(tmp_path / "tree") == others(study)


def test_a_store_by_http(study: list[Instance], tmp_path: Path) -> None:
    server = Server(tmp_path / "tree", tmp_path / "log")
    try:
        parts = (b"--x\r\nContent-Type: application/dicom\r\n\r\n" + each.path.read_bytes() + b"\r\n" for each in study)
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x', "Accept": JSON}
        answer = requests.post(f"{server.url}/studies", data=b"".join(parts) + b"--x--\r\n", headers=headers, timeout=120)
        assert answer.status_code == 202
        [failed] = answer.json()["00081198"]["Value"]
        assert failed["00081155"]["Value"] == [study[2].dataset.SOPInstanceUID]
        assert rendered(tmp_path / "tree") == others(study)
        assert len(server.found(f"/studies/{study[0].dataset.StudyInstanceUID}/instances")) == 19
    finally:
        stop(server.process, server.log)


def test_a_store_by_dimse(study: list[Instance], tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    try:
        receiver.send(*study)
        wait_for(lambda: rendered(receiver.root) == others(study) and list((receiver.root / "refused").iterdir()))
        [refused] = (receiver.root / "refused").iterdir()
        wait_for(
            lambda: f"{refused} is not rendered: The instance can't be decoded: the decoder crashed." in receiver.log.read_text()
        )
    finally:
        stop(receiver.process, receiver.log)
