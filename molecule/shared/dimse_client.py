"""A DIMSE client and a Storage SCP for the tests."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, StoragePresentationContexts, _config, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

# Files are sent as they are.
_config.STORE_SEND_CHUNKED_DATASET = True
# As inventory/group_vars/all/site.yml of the scenario names them to the archive.
AET, PORT = "TESTS", 11113


class Archive:
    """An archive at an address, called by the AE title `calling`."""

    def __init__(self, address: str, port: int = 4242, aet: str = "ORTHANC", calling: str = AET) -> None:
        self.address, self.port, self.aet, self.calling = address, port, aet, calling

    @contextmanager
    def association(self, contexts: list[tuple[str, list[UID]]], **options: Any) -> Iterator[Association]:
        """An association that asks for the contexts, released at the end."""
        entity = AE(ae_title=self.calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        for abstract, syntaxes in contexts:
            entity.add_requested_context(abstract, [str(syntax) for syntax in syntaxes] or None)
        association = entity.associate(self.address, self.port, ae_title=self.aet, **options)
        assert association.is_established, f"no association with {self.aet} at {self.address}:{self.port}"
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def echo(self) -> int:
        with self.association([(Verification, [])]) as association:
            return int(association.send_c_echo().Status)

    def store(self, dataset: Dataset) -> int:
        syntax = dataset.file_meta.TransferSyntaxUID
        with self.association([(dataset.SOPClassUID, [syntax])]) as association:
            return int(association.send_c_store(dataset).Status)

    def store_file(self, path: Path) -> int:
        """Return the status of a C-STORE of a file's dataset as its bytes are."""
        meta = read_file_meta_info(path)
        with self.association([(meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID])]) as association:
            return int(association.send_c_store(str(path)).Status)

    def tried(self, dataset: Dataset) -> int | None:
        """Return the status of a C-STORE, None where the association is refused or aborted: either way the sender keeps it."""
        entity = AE(ae_title=self.calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        entity.add_requested_context(dataset.SOPClassUID, str(dataset.file_meta.TransferSyntaxUID))
        association = entity.associate(self.address, self.port, ae_title=self.aet)
        if not association.is_established:
            return None
        status = association.send_c_store(dataset).get("Status")
        association.release()
        return None if status is None else int(status)

    def find(self, level: str, **keys: str) -> list[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        for name, value in keys.items():
            setattr(query, name, value)
        model = StudyRootQueryRetrieveInformationModelFind
        with self.association([(model, [])]) as association:
            answers = list(association.send_c_find(query, model))
        assert answers, "no answer at all"
        assert answers[-1][0].get("Status") == 0, f"{self.calling} gets {answers[-1][0] or 'an abort'}"
        return [identifier for _, identifier in answers if identifier is not None]

    def get(self, wanted: Dataset) -> list[Dataset]:
        """Return what C-GET brings of the study, in the transfer syntax in which `wanted` was stored."""
        received: list[Dataset] = []
        model = StudyRootQueryRetrieveInformationModelGet
        contexts = [(model, []), (wanted.SOPClassUID, [wanted.file_meta.TransferSyntaxUID])]
        with self.association(
            contexts,
            ext_neg=[build_role(wanted.SOPClassUID, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep(received))],
        ) as association:
            answers = list(association.send_c_get(study_of(wanted), model))
        assert answers[-1][0].Status == 0, answers
        return received

    def move(self, wanted: Dataset) -> list[Dataset]:
        """Return what C-MOVE sends of the study to a Storage SCP that runs meanwhile."""
        received: list[Dataset] = []
        model = StudyRootQueryRetrieveInformationModelMove
        with storage_scp(received, self._own_address()), self.association([(model, [])]) as association:
            answers = list(association.send_c_move(study_of(wanted), self.calling, model))
        assert answers[-1][0].Status == 0, answers
        return received

    def _own_address(self) -> str:
        """Return the address by which the archive reaches this machine: other tests listen at the same port by theirs."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected:
            connected.connect((self.address, self.port))
            return str(connected.getsockname()[0])


def study_of(dataset: Dataset) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = dataset.StudyInstanceUID
    return query


def keep(received: list[Dataset]) -> Callable[[Any], int]:
    def handle(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.append(dataset)
        return 0

    return handle


@contextmanager
def storage_scp(received: list[Dataset], address: str) -> Iterator[None]:
    """A Storage SCP at PORT of an address of this machine that takes every storage class in every transfer syntax."""
    entity = AE(ae_title=AET)
    # Where several are proposed, an SCP takes its first: the compressed ones stand before the plain.
    syntaxes = list(reversed(AllTransferSyntaxes))
    for context in StoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    server = entity.start_server((address, PORT), block=False, evt_handlers=[(evt.EVT_C_STORE, keep(received))])
    try:
        yield
    finally:
        server.shutdown()


class Modality:
    """Sends as modalities do: what was not acknowledged is sent again until it is."""

    def __init__(self, address: str, port: int, aet: str) -> None:
        self.address, self.port, self.aet = address, port, aet

    def send(self, datasets: list[Dataset], seconds: float = 600) -> None:
        waiting = list(datasets)
        deadline = time.monotonic() + seconds
        while waiting:
            assert time.monotonic() < deadline, "the gateway never took it"
            waiting = self._try(waiting)
            if waiting:
                time.sleep(0.5)

    def _try(self, datasets: list[Dataset]) -> list[Dataset]:
        entity = AE(ae_title="MODALITY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.connection_timeout = 5
        entity.add_requested_context(datasets[0].SOPClassUID, datasets[0].file_meta.TransferSyntaxUID)
        association = entity.associate(self.address, self.port, ae_title=self.aet)
        if not association.is_established:
            return datasets
        left: list[Dataset] = []
        for number, dataset in enumerate(datasets):
            answer = association.send_c_store(dataset)
            if "Status" not in answer:
                return left + datasets[number:]
            if answer.Status != 0:
                left.append(dataset)
        association.release()
        return left
