"""The plain design that the pipeline is measured against: it asks every five seconds, and moves one study after the other.

Runs on the host, in the monitor's place: `polling.py DIRECTORY SECONDS new|all`. It prints its process, and each study that it has.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

STORAGE = "http://127.0.0.1:8043"
POLL_SECONDS = 5


def asked(path: str) -> dict[str, object]:
    with urllib.request.urlopen(STORAGE + path, timeout=60) as answer:
        return dict(json.load(answer))


def store(event: evt.Event, directory: Path) -> int:
    dataset = event.dataset
    dataset.file_meta = event.file_meta
    path = directory / str(dataset.PatientID) / str(dataset.StudyInstanceUID) / str(dataset.SeriesInstanceUID)
    path.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return 0


def moved(uid: str) -> None:
    entity = AE(ae_title="PYTHON_SCP")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = entity.associate("127.0.0.1", 4243, ae_title="ORTHANC2")
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = uid
    for _ in association.send_c_move(identifier, "PYTHON_SCP", StudyRootQueryRetrieveInformationModelMove):
        pass
    association.release()


def main() -> None:
    directory, seconds = Path(sys.argv[1]), float(sys.argv[2])
    entity = AE(ae_title="PYTHON_SCP")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.start_server(("127.0.0.1", 11112), block=False, evt_handlers=[(evt.EVT_C_STORE, store, [directory])])
    last = asked("/changes?last")["Last"] if sys.argv[3] == "new" else 0
    print(os.getpid(), flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page = asked(f"/changes?since={last}&limit=10000")
        last = page["Last"]
        for change in page["Changes"]:  # type: ignore[attr-defined]
            if change["ChangeType"] == "StableStudy":
                tags = asked(f"/studies/{change['ID']}")["MainDicomTags"]
                moved(tags["StudyInstanceUID"])  # type: ignore[index]
                print(tags["StudyInstanceUID"], flush=True)  # type: ignore[index]
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
