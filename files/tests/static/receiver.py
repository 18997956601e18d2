"""dicomwebscp as a process of its own, for the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from datasets import Instance, same
from dimse_client import Modality
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from servers import free_port, wait_for_port, with_sources
from static_dicomweb.store import dicom

AET = "DICOMWEBSCP"


class Receiver:
    """dicomwebscp over a tree."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.root = directory / "tree"
        self.log = directory / "log"
        self.port = free_port()
        self.options = options
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "static_dicomweb.receive", "--root", str(self.root), "--port", str(self.port)]
        command += ["--quiet-seconds", "0.5", *self.options]
        with self.log.open("a") as log:
            environment = with_sources()
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        wait_for_port(self.process, self.port)

    def send(self, *instances: Instance) -> None:
        Modality("127.0.0.1", self.port, AET).send([instance.dataset for instance in instances])

    def has(self, instance: Instance) -> bool:
        dataset = instance.dataset
        place = self.root / "instances" / dataset.StudyInstanceUID / dataset.SeriesInstanceUID / dataset.SOPInstanceUID
        if not (self.root / "studies" / dataset.StudyInstanceUID / "metadata.gz").exists() or not place.is_dir():
            return False
        return same(dcmread(DicomBytesIO(b"".join(dicom(place)))), dataset)
