"""An archive made from pynetdicom that misbehaves on cue."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from datasets import named
from dimse.part10 import EXPLICIT, encode
from dimse.scu import Proposal, associate
from proxy_server import PROXY_AET
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from servers import free_port

_config.ENFORCE_UID_CONFORMANCE = False
PRIVATE_CLASS = "1.2.826.0.1.3680043.2.1143.9999"
PRIVATE_SYNTAX = "1.2.826.0.1.3680043.2.1143.8888"
INSTANCES = 6


class Misbehaving:
    """An archive with one study. `how` is what it does wrong from now on; nothing where it is empty."""

    def __init__(self, move_port: int) -> None:
        self.how = ""
        self.aet, self.port = "AWKWARD", free_port()
        self.cancelled = self.retrieved = self.sent = self.associations = 0
        self.asked_fuzzily = False
        self._turn = threading.Lock()
        self._move_port = move_port
        source = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        self.study, self.series = "1.2.826.0.1.3680043.8.498.77", "1.2.826.0.1.3680043.8.498.77.1"
        self.datasets = [named(deepcopy(source), self.study, self.series) for _ in range(INSTANCES)]
        self.start()

    def start(self) -> None:
        entity = AE(self.aet)
        entity.maximum_associations = 50
        for model in (
            *(() if self.how == "no find" else (StudyRootQueryRetrieveInformationModelFind,)),
            StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove,
            Verification,
        ):
            entity.add_supported_context(model)
        for sop_class in (CTImageStorage, PRIVATE_CLASS):
            syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
            entity.add_supported_context(sop_class, syntaxes, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_SOP_EXTENDED, self._extended),
            (evt.EVT_ESTABLISHED, self._count, [1]),
            (evt.EVT_RELEASED, self._count, [-1]),
            (evt.EVT_ABORTED, self._count, [-1]),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        self._entity = entity
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Be down, and end the associations that there are."""
        self._entity.shutdown()

    def _count(self, _event: evt.Event, change: int) -> None:
        with self._turn:
            self.associations += change

    def _extended(self, event: evt.Event) -> dict[Any, bytes]:
        # Fuzzy matching of names (PS3.4 C.5.1.1).
        self.asked_fuzzily = event.app_info.get(StudyRootQueryRetrieveInformationModelFind) == b"\0\0\1"
        return event.app_info if self.asked_fuzzily else {}

    def _requested(self, event: evt.Event) -> None:
        if self.how == "silent at once":
            time.sleep(6)
        if self.how == "rejects":
            event.assoc.acse.send_reject(1, 1, 3)
            event.assoc.kill()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if self.how == "find fails":
            yield 0xC001, None
            return
        if self.how == "find breaks off":
            event.assoc.abort()
            return
        level = event.identifier.QueryRetrieveLevel
        row = Dataset()
        row.QueryRetrieveLevel, row.StudyInstanceUID = level, self.study
        row.SOPClassesInStudy = [PRIVATE_CLASS] if self.how == "private" else [CTImageStorage]
        row.PatientName = "Awkward^Archive"
        # A number that is none.
        row.add_new(0x00201208, "IS", None)
        yield 0xFF00, row
        yield 0x0000, None

    def _sent(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.retrieved += 1
        announced = INSTANCES + (2 if self.how == "fewer than announced" else 0)
        yield announced  # type: ignore[misc]
        for number, dataset in enumerate(self.datasets):
            if event.is_cancelled:
                self.cancelled += 1
                yield 0xFE00, None
                return
            if number == INSTANCES // 2:
                if self.how == "aborts":
                    event.assoc.abort()
                    return
                if self.how == "stalls":
                    time.sleep(6)
                if self.how == "fails":
                    yield 0xC000, None
                    return
                if self.how == "no resources":
                    yield 0xA701, None
                    return
            if self.how == "slow":
                time.sleep(1)
            self.sent += 1
            if self.how == "some fail" and number == INSTANCES // 2:
                dataset = deepcopy(dataset)
                # Nobody agreed on it.
                dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
            if self.how == "private":
                dataset = deepcopy(dataset)
                dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PRIVATE_CLASS
            if self.how == "another study":
                dataset = deepcopy(dataset)
                dataset.StudyInstanceUID = "1.2.3"
            yield 0xFF00, dataset

    def _send_more(self) -> None:
        """Send an instance beside what is announced, in a transfer syntax that nobody knows where that is the cue."""
        dataset = named(deepcopy(self.datasets[0]), self.study, self.series)
        syntax = PRIVATE_SYNTAX if self.how == "unknown syntax" else EXPLICIT
        content = io.BytesIO()
        encode(dataset, EXPLICIT, content)
        association = associate("127.0.0.1", self._move_port, PROXY_AET, self.aet, [Proposal(CTImageStorage, (syntax,))], 5)
        assert association.store(CTImageStorage, dataset.SOPInstanceUID, syntax, [content.getvalue()]).status == 0
        association.close()

    def _get(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        yield from self._sent(event)

    def _move(self, event: evt.Event) -> Iterator[Any]:
        if self.how == "unknown destination":
            yield None, None
            return
        assert event.move_destination == PROXY_AET
        syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        contexts = [build_context(sop_class, syntaxes) for sop_class in (CTImageStorage, PRIVATE_CLASS)]
        yield "127.0.0.1", self._move_port, {"contexts": contexts}
        if self.how in ("more than announced", "unknown syntax"):
            self._send_more()
        yield from self._sent(event)
