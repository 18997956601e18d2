"""Asks the storage for instances, by C-MOVE or C-GET (PS3.4 annex C)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from dimse.association import associate, make_ae
from dimse.upper_layer import MOST_CONTEXTS
from pipeline.engine import PostponedError
from pipeline.orthanc import Instance, Orthanc, Study
from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from pipeline_monitor.settings import Settings

# A list of UIDs has a 64 KB limit in explicit VR; 64 letters each.
_UIDS_IN_A_REQUEST = 500
# One is the request's own.
_CONTEXTS_FOR_INSTANCES = MOST_CONTEXTS - 1
_UNABLE_TO_ANSWER_SECONDS = 5


def _identifiers(study: Study, instances: list[Instance], is_whole: bool) -> Iterator[Dataset]:
    """Yield the requests that ask for instances: one for the whole study, else some of each series."""
    if is_whole:
        yield _identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=study.uid)
        return
    series: defaultdict[str, list[str]] = defaultdict(list)
    for instance in instances:
        series[instance.series_uid].append(instance.uid)
    for series_uid, uids in series.items():
        for start in range(0, len(uids), _UIDS_IN_A_REQUEST):
            yield _identifier(
                QueryRetrieveLevel="IMAGE",
                StudyInstanceUID=study.uid,
                SeriesInstanceUID=series_uid,
                SOPInstanceUID=uids[start : start + _UIDS_IN_A_REQUEST],
            )


def _identifier(**attributes: str | list[str]) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


class Retriever:
    """Retrieves over an association of its own each time, so that a broken one harms one study."""

    def __init__(self, settings: Settings, storage: Orthanc, store: Callable[[Event], int]) -> None:
        self._settings = settings
        self._storage = storage
        self._store = store

    def retrieve(self, study: Study, instances: list[Instance], is_whole: bool) -> str:
        """Have instances sent; return what the storage said went wrong. Raises PostponedError where it takes no association."""
        if self._settings.retrieve == "get":
            return self._get(study, instances, is_whole)
        contexts = [build_context(StudyRootQueryRetrieveInformationModelMove)]
        association = self._associate(contexts)
        try:
            problems = []
            for identifier in _identifiers(study, instances, is_whole):
                answers = association.send_c_move(
                    identifier, self._settings.monitor_aet, StudyRootQueryRetrieveInformationModelMove
                )
                problems.append(_outcome(answers))
        finally:
            _leave(association)
        return next(filter(None, problems), "")

    def _get(self, study: Study, instances: list[Instance], is_whole: bool) -> str:
        kinds: defaultdict[tuple[str, str], list[Instance]] = defaultdict(list)
        for instance in instances:
            notes = self._storage.metadata(instance.id)
            kinds[notes["SopClassUid"], notes["TransferSyntax"]].append(instance)
        problems = []
        every = list(kinds)
        for start in range(0, len(every), _CONTEXTS_FOR_INSTANCES):
            chosen = every[start : start + _CONTEXTS_FOR_INSTANCES]
            wanted = [instance for kind in chosen for instance in kinds[kind]]
            problems.append(self._get_kinds(study, wanted, chosen, is_whole and len(wanted) == len(instances)))
        return next(filter(None, problems), "")

    def _get_kinds(self, study: Study, instances: list[Instance], kinds: list[tuple[str, str]], is_whole: bool) -> str:
        contexts = [build_context(StudyRootQueryRetrieveInformationModelGet)]
        # One context for each syntax, so that everything comes as it is stored.
        contexts += [build_context(sop_class, syntax) for sop_class, syntax in kinds]
        association = self._associate(contexts, {sop_class for sop_class, _ in kinds})
        try:
            problems = [
                _outcome(association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet))
                for identifier in _identifiers(study, instances, is_whole)
            ]
        finally:
            _leave(association)
        return next(filter(None, problems), "")

    def _associate(self, contexts: list[PresentationContext], stored: Iterable[str] = ()) -> Association:
        settings = self._settings
        entity = make_ae(settings.monitor_aet, settings.silence_seconds)
        try:
            return associate(
                entity,
                settings.storage_host,
                settings.storage_port,
                settings.storage_aet,
                [(evt.EVT_C_STORE, self._store)],
                contexts=contexts,
                ext_neg=[build_role(sop_class, scp_role=True) for sop_class in stored],
            )
        except ConnectionError as error:
            raise PostponedError(_UNABLE_TO_ANSWER_SECONDS, str(error)) from None


def _leave(association: Association) -> None:
    if association.is_established:
        association.release()


def _outcome(answers: Iterable[tuple[Dataset, Dataset | None]]) -> str:
    """Return what a final answer says went wrong (PS3.4 C.4.2.1.5, C.4.3.1.4), or nothing."""
    status = 0
    comment = ""
    for answer, _ in answers:
        if "Status" not in answer:
            return "the storage broke the association"
        status = answer.Status
        comment = str(answer.get("ErrorComment") or "")
        failed = answer.get("NumberOfFailedSuboperations") or 0
        if failed:
            comment = comment or f"{failed} instances could not be sent"
    return "" if status == 0 else f"status 0x{status:04X} {comment}".strip()
