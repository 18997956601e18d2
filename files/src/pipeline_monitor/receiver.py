"""Takes in the instances of studies that are being extracted (Storage SCP, PS3.4 annex B)."""

from __future__ import annotations

import errno
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dimse.incoming_file import IncomingFile
from dimse.new_file import NewFile
from dimse.storage_scp import StorageSCP
from dimse.upper_layer import Begun
from pynetdicom.events import Event

from pipeline_monitor.tree import Tree

_LOG = logging.getLogger("pipeline.receive")
_SUCCESS, _NO_RESOURCES, _NOT_EXPECTED, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0x0124, 0xC000
_IDENTITY = _PATIENT, _STUDY, _SERIES, _UID = (0x00100020, 0x0020000D, 0x0020000E, 0x00080018)
# That the disk says it is full or broken, and not that something is wrong with an instance.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(eq=False)
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

    def begin(self, begun: Begun) -> Arrival:
        """Return where an instance goes that begins to come."""
        return Arrival(self, self._tree, begun)

    def store(self, event: Event) -> int:
        """Handle a C-STORE that came as an answer to a C-GET; return its status (PS3.4 B.2.3)."""
        request = event.request
        begun = Begun(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, event.context.transfer_syntax)
        arrival = self.begin(begun)
        arrival.write(request.DataSet.getbuffer())
        return arrival.finish()

    def place(self, file: NewFile, identity: dict[int, str]) -> bool:
        """Give a whole file its place, in its turn; return whether anybody waits for it."""
        with self._turn:
            waiting = [expected for expected in self._expected if expected.study_uid == identity[_STUDY]]
            for expected in waiting:
                expected.writing += 1
        if waiting:
            self._writers.submit(self._put, waiting, identity, file)
        return bool(waiting)

    def fail(self, uid: str, error: OSError) -> None:
        """Tell all who wait that an instance could not be written, since nobody knows of which study it is."""
        with self._turn:
            for expected in self._expected:
                _note_error(expected, uid, error)

    def _put(self, waiting: list[Expected], identity: dict[int, str], file: NewFile) -> None:
        target = self._tree.path(*(identity[keyword] for keyword in _IDENTITY))
        failure = None
        try:
            if self._tree.put(file, target):
                _LOG.warning(
                    "study %s instance %s is another than before: the former one is kept", identity[_STUDY], identity[_UID]
                )
        except OSError as error:
            failure = error
            file.drop()
        with self._turn:
            for expected in waiting:
                if failure:
                    _note_error(expected, identity[_UID], failure)
                else:
                    expected.files[identity[_PATIENT], identity[_SERIES], identity[_UID]] = target
                expected.writing -= 1
            self._turn.notify_all()

    def listen(self, title: str, host: str, port: int, storage_title: str, seconds: float) -> None:
        """Be the move destination, for the storage alone, from now on. Raises OSError where the port is taken."""
        try:
            StorageSCP(title, (storage_title,), self.begin, seconds).listen(host, port)
        except OSError as error:
            raise OSError(f"MONITOR_HOST {host}, MONITOR_PORT {port}: {error.strerror}") from None
        _LOG.info("listening as %s on %s:%d", title, host, port)


class Arrival(IncomingFile):
    """One instance on its way to the tree."""

    def __init__(self, receiver: Receiver, tree: Tree, begun: Begun) -> None:
        self._receiver = receiver
        super().__init__(begun, tree.new_file, lambda error: receiver.fail(begun.uid, error))

    def finish(self) -> int:
        """Return the status (PS3.4 B.2.3): the file is written, and will be given its place."""
        file = self._taken()
        if file is None:
            return _NO_RESOURCES
        try:
            identity = self._texts(file, _IDENTITY)
        except Exception:
            _LOG.warning("refused an instance that can't be read: %s", self._begun.uid)
            file.drop()
            return _CANNOT_UNDERSTAND
        if not self._receiver.place(file, identity):
            _LOG.warning("refused an instance that nobody asked for: %s", self._begun.uid)
            file.drop()
            return _NOT_EXPECTED
        return _SUCCESS


def _note_error(expected: Expected, uid: str, error: OSError) -> None:
    expected.problems[uid] = str(error.strerror or error)
    if error.errno in _DISK_ERRORS:
        expected.disk_problem = expected.problems[uid]
