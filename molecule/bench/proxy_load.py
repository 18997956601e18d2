"""Runs on the proxy's host with its Python: measures it against bare C-GET, getscu and C-FIND, and prints the figures as JSON.

`proxy_load.py LARGE-STUDY SMALL-STUDY...`
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import httpx
from dicomweb.levels import RETURNED
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

PROXY = "http://127.0.0.1:3006"
AS_STORED = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
REPEATS = 5
# The archive knows it.
CALLING = "PACSBIN_PROXY"


def associated(*contexts: str, **options: object) -> object:
    entity = AE(CALLING)
    for context in contexts:
        entity.add_requested_context(context, ["1.2.840.10008.1.2.1"])
    association = entity.associate("127.0.0.1", 4242, ae_title="ORTHANC", max_pdu=131072, **options)
    assert association.is_established
    return association


def identifier(level: str, **keys: str) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def first_dataset(study: str) -> float:
    """Return the seconds until the first dataset of a bare C-GET by pynetdicom."""
    came: list[float] = []
    begun = time.perf_counter()

    def store(event: evt.Event) -> int:
        came.append(time.perf_counter() - begun)
        return 0

    roles = [build_role(CTImageStorage, scp_role=True)]
    model = StudyRootQueryRetrieveInformationModelGet
    association = associated(model, CTImageStorage, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, store)])
    for _ in association.send_c_get(identifier("STUDY", StudyInstanceUID=study), model):  # type: ignore[attr-defined]
        if came:
            break
    association.abort()  # type: ignore[attr-defined]
    return came[0]


def getscu(study: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        command = ["env", "TCP_NODELAY=1", "/usr/bin/getscu", "-aet", CALLING, "-aec", "ORTHANC", "-xe", "-pdu", "131072"]
        begun = time.perf_counter()
        keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        subprocess.run([*command, "-od", directory, *keys, "127.0.0.1", "4242"], check=True, capture_output=True)
        return time.perf_counter() - begun


def fetched(study: str) -> tuple[float, float, int]:
    """Return the seconds until the first byte of the first instance, until the last byte, and the bytes."""
    begun = time.perf_counter()
    first = 0.0
    count = 0
    with httpx.stream("GET", f"{PROXY}/studies/{study}", headers=AS_STORED, timeout=120) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw(1 << 18):
            first = first or time.perf_counter() - begun
            count += len(piece)
    return first, time.perf_counter() - begun, count


def found_by_dimse(association: object) -> float:
    begun = time.perf_counter()
    # The same attributes as the proxy asks for.
    keys = dict.fromkeys((keyword_for_tag(int(tag, 16)) for tag in RETURNED["STUDY"]), "")
    model = StudyRootQueryRetrieveInformationModelFind
    rows = list(association.send_c_find(identifier("STUDY", **keys), model))  # type: ignore[attr-defined]
    assert len(rows) > 1
    return time.perf_counter() - begun


def found_by_web(client: httpx.Client) -> float:
    begun = time.perf_counter()
    assert client.get("/studies").json()
    return time.perf_counter() - begun


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(REPEATS))


def at_once(studies: list[str]) -> float:
    """Return the bytes a second of several studies at the same time."""
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda study=study: sizes.append(fetched(study)[2])) for study in studies]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == len(studies)
    return sum(sizes) / (time.perf_counter() - begun)


def one_after_the_other(studies: list[str]) -> float:
    begun = time.perf_counter()
    return sum(fetched(study)[2] for study in studies) / (time.perf_counter() - begun)


def main() -> None:
    large, small = sys.argv[1], sys.argv[2:]
    association = associated(StudyRootQueryRetrieveInformationModelFind)
    fetches = [fetched(large) for _ in range(REPEATS)]
    with httpx.Client(base_url=PROXY) as client:
        figures = {
            "first_dataset": median(lambda: first_dataset(large)),
            "first_byte": statistics.median(first for first, _, _ in fetches),
            "getscu": median(lambda: getscu(large)),
            "whole": statistics.median(whole for _, whole, _ in fetches),
            "one": one_after_the_other(small),
            "at_once": at_once(small),
            "find": median(lambda: found_by_dimse(association)),
            "search": median(lambda: found_by_web(client)),
        }
    association.release()  # type: ignore[attr-defined]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
