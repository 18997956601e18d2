"""Takes in the instances of studies that are being extracted (Storage SCP, PS3.4 annex B)."""

from __future__ import annotations

import errno
import io
import logging
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dimse.association import WITHOUT_DELAY, make_ae
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event

from pipeline_monitor.tree import Tree

_LOG = logging.getLogger("pipeline.receive")
_SUCCESS, _NO_RESOURCES, _NOT_EXPECTED, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0x0124, 0xC000
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_, _STUDY, _, _UID = _IDENTITY
_LAST = 0x0020000E
# That the disk says it is full or broken, and not that something is wrong with an instance.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass
class Expected:
    """A study that is being extracted, and what has come of it."""

    study_uid: str
    files: dict[tuple[str, str, str], Path] = field(default_factory=dict)
    """Files in the tree by PatientID, SeriesInstanceUID and SOPInstanceUID."""
    disk_problem: str = ""
    problems: dict[str, str] = field(default_factory=dict)
    """Why instances couldn't be written, by SOPInstanceUID."""
    writing: int = 0
    """Instances that are not in their place yet."""

    def came(self, patient_id: str) -> set[tuple[str, str]]:
        """Return which instances are in the tree, by SeriesInstanceUID and SOPInstanceUID.

        A study's UID may have been given to two patients. Where nothing bears the patient's ID as Orthanc has it, the two read its
        characters in different ways, and it is taken as the patient's all the same.
        """
        own = {key[1:] for key in self.files if key[0].strip() == patient_id.strip()}
        return own or {key[1:] for key in self.files}


class Receiver:
    """Writes instances into the tree: at once under another name; synced and put in place beside, while the next one comes."""

    def __init__(self, tree: Tree, writers: int = 4) -> None:
        self._tree = tree
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="writer")
        self._turn = threading.Condition()
        self._expected: list[Expected] = []

    def expect(self, study_uid: str) -> Expected:
        """Take in the instances of a study from now on."""
        expected = Expected(study_uid)
        with self._turn:
            self._expected.append(expected)
        return expected

    def finish(self, expected: Expected) -> None:
        """Expect no more of a study, and wait until all that came of it is durable, or said why it isn't."""
        with self._turn:
            self._expected.remove(expected)
            self._turn.wait_for(lambda: expected.writing == 0)
        try:
            self._tree.sync(expected.files.values())
        except OSError as error:
            expected.disk_problem = str(error)

    def store(self, event: Event) -> int:
        """Handle a C-STORE; return its status (PS3.7 9.1.1.1.9, PS3.4 B.2.3)."""
        syntax = UID(event.context.transfer_syntax)
        content = event.request.DataSet.getbuffer()
        try:
            identity = _identity(event.request.DataSet, syntax)
        except Exception:
            _LOG.warning("refused an instance that can't be read: %s", event.request.AffectedSOPInstanceUID)
            return _CANNOT_UNDERSTAND
        with self._turn:
            waiting = [expected for expected in self._expected if expected.study_uid == identity[_STUDY]]
            for expected in waiting:
                expected.writing += 1
        if not waiting:
            _LOG.warning("refused an instance that nobody asked for: %s", event.request.AffectedSOPInstanceUID)
            return _NOT_EXPECTED
        try:
            head = b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta)
            written = self._tree.write([head, content])
        except OSError as error:
            self._note(waiting, identity, None, error)
            return _NO_RESOURCES
        self._writers.submit(self._put, waiting, identity, written)
        return _SUCCESS

    def _put(self, waiting: list[Expected], identity: dict[str, str], written: Path) -> None:
        target = self._tree.path(*(identity[keyword] for keyword in _IDENTITY))
        try:
            if self._tree.put(written, target):
                _LOG.warning(
                    "study %s instance %s is another than before: the former one is kept", identity[_STUDY], identity[_UID]
                )
        except OSError as error:
            self._tree.drop(written)
            self._note(waiting, identity, None, error)
        else:
            self._note(waiting, identity, target, None)

    def _note(self, waiting: list[Expected], identity: dict[str, str], target: Path | None, error: OSError | None) -> None:
        with self._turn:
            for expected in waiting:
                if target:
                    expected.files[identity["PatientID"], identity["SeriesInstanceUID"], identity[_UID]] = target
                elif error:
                    expected.problems[identity[_UID]] = str(error.strerror or error)
                    if error.errno in _DISK_ERRORS:
                        expected.disk_problem = expected.problems[identity[_UID]]
                expected.writing -= 1
            self._turn.notify_all()

    def listen(self, title: str, host: str, port: int, storage_title: str, seconds: float) -> None:
        """Be the move destination, for the storage alone, from now on. Raises OSError where the port is taken."""
        entity = make_ae(title, seconds)
        entity.require_called_aet = True
        entity.require_calling_aet = [storage_title] if storage_title else []
        entity.maximum_associations = 64
        # Whatever the storage holds: private classes and syntaxes too.
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        try:
            entity.start_server((host, port), block=False, evt_handlers=[WITHOUT_DELAY, (evt.EVT_C_STORE, self.store)])
        except OSError as error:
            raise OSError(f"MONITOR_HOST {host}, MONITOR_PORT {port}: {error.strerror}") from None
        _LOG.info("listening as %s on %s:%d", title, host, port)


def _identity(dataset: io.BytesIO, syntax: UID) -> dict[str, str]:
    """Read what says where an instance belongs; the pixels aren't looked at."""
    dataset.seek(0)
    # A deflated dataset (PS3.5 A.5) is explicit little endian inside.
    stream = io.BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(dataset.read())) if syntax.is_deflated else dataset
    found = read_dataset(
        stream,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag > _LAST,
        specific_tags=[tag_for_keyword(keyword) or 0 for keyword in _IDENTITY],
    )
    return {keyword: str(found.get(keyword) or "") for keyword in _IDENTITY}
