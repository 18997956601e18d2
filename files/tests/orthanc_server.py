"""A real Orthanc with its DICOMweb plugin, for the tests."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import requests
from pydicom.dataset import Dataset
from pynetdicom import AE
from servers import free_port, wait_for_answer

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STABLE_SECONDS = 1


class OrthancServer:
    """An Orthanc on loopback that tests may stop, kill and start."""

    def __init__(self, directory: Path, aet: str, **settings: Any) -> None:
        assert PLUGIN.exists(), "install Orthanc (apt-get install orthanc orthanc-dicomweb): its tests run against the real one"
        self.directory = directory
        self.aet = aet
        self.http_port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.settings = {
            "Name": aet,
            "DicomAet": aet,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(directory),
            "IndexDirectory": str(directory),
            "Plugins": [str(PLUGIN)],
            "StableAge": STABLE_SECONDS,
            "OverwriteInstances": True,
            "MaximumPduLength": 131072,
            "SaveJobs": False,
            **settings,
        }
        self.session = requests.Session()
        self.session.trust_env = False
        # Orthanc closes a connection that was idle, maybe just when it is used again: what it gave no answer to is asked again.
        again = requests.adapters.Retry(total=3, allowed_methods=None, backoff_factor=0.1)
        self.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=again))
        self.start()

    def start(self) -> None:
        configuration = self.directory / "orthanc.json"
        configuration.write_text(json.dumps(self.settings))
        with (self.directory / "log").open("a") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/Orthanc", str(configuration)], stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"}
            )
        wait_for_answer(self.process, self.directory / "log", lambda: self.session.get(f"{self.url}/system", timeout=30))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def get(self, path: str) -> Any:
        answer = self.session.get(f"{self.url}{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def delete_all(self) -> None:
        for study in self.get("/studies"):
            self.session.delete(f"{self.url}/studies/{study}", timeout=60).raise_for_status()

    def instance_count(self) -> int:
        return int(self.get("/statistics")["CountInstances"])

    def send(self, *datasets: Dataset, calling: str = "MODALITY") -> None:
        """Send datasets by C-STORE, each as it is."""
        entity = AE(ae_title=calling)
        for kind in {(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID) for dataset in datasets}:
            entity.add_requested_context(*kind)
        association = entity.associate("127.0.0.1", self.dicom_port, ae_title=self.aet)
        assert association.is_established
        for dataset in datasets:
            assert association.send_c_store(dataset).Status == 0
        association.release()
