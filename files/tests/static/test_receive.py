"""What is sent to dicomwebscp is in the tree, whatever comes between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import KINDS, Instance, ct_study, of_kind, same
from dimse_client import Modality
from pipeline_services import wait_for
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE
from servers import SOURCES, free_port, stop, wait_for_port
from static_dicomweb.store import dicom


class Receiver:
    """dicomwebscp over a tree."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "tree"
        self.log = directory / "log"
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "static_dicomweb.receive", "--root", str(self.root), "--port", str(self.port)]
        command += ["--quiet-seconds", "0.5", "--caller", "MODALITY"]
        with self.log.open("a") as log:
            environment = os.environ | {"PYTHONPATH": str(SOURCES)}
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        wait_for_port(self.process, self.port)

    def send(self, *instances: Instance) -> None:
        Modality("127.0.0.1", self.port, "DICOMWEBSCP").send([instance.dataset for instance in instances])

    def has(self, instance: Instance) -> bool:
        dataset = instance.dataset
        place = self.root / "instances" / dataset.StudyInstanceUID / dataset.SeriesInstanceUID / dataset.SOPInstanceUID
        if not (self.root / "studies" / dataset.StudyInstanceUID / "metadata.gz").exists() or not place.is_dir():
            return False
        return same(dcmread(DicomBytesIO(b"".join(dicom(place)))), dataset)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path)
    yield made
    stop(made.process, made.log)


def test_every_kind_is_rendered_as_it_was_sent(receiver: Receiver, tmp_path: Path) -> None:
    sent = [of_kind(kind, tmp_path) for kind in KINDS]
    for instance in sent:
        receiver.send(instance)
    wait_for(lambda: all(receiver.has(instance) for instance in sent))
    assert not list((receiver.root / "received").iterdir()) and not list((receiver.root / "refused").iterdir())


def test_nothing_is_lost_when_it_is_killed(receiver: Receiver, tmp_path: Path) -> None:
    sent = ct_study(30, tmp_path, rows=64)
    receiver.send(*sent[:15])
    receiver.process.kill()
    receiver.process.wait(30)
    receiver.start()
    receiver.send(*sent[15:])
    wait_for(lambda: all(receiver.has(instance) for instance in sent))
    wait_for(lambda: not list((receiver.root / "received").iterdir()))


def test_another_content_is_refused_and_kept(receiver: Receiver, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    receiver.send(instance)
    wait_for(lambda: receiver.has(instance))
    other = of_kind("ct", tmp_path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(other.dataset, keyword, instance.dataset[keyword].value)
    other.dataset.file_meta.MediaStorageSOPInstanceUID = instance.dataset.SOPInstanceUID
    other.dataset.PixelData = bytes(reversed(other.dataset.PixelData))
    receiver.send(other)
    wait_for(lambda: list((receiver.root / "refused").iterdir()))
    assert "same UIDs and other content" in receiver.log.read_text()
    assert receiver.has(instance)


def test_strangers_are_rejected(receiver: Receiver) -> None:
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", receiver.port, ae_title="DICOMWEBSCP")
    assert association.is_rejected
