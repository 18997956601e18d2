"""Takes in instances, by C-GET or C-MOVE, for the retrieval that asked for them (Storage SCP, PS3.4 annex B)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dicomweb.instances import Instance
from dimse.new_file import NewFile
from dimse.part10 import BEGINNING_BYTES, file_head, read_texts, read_texts_slowly
from dimse.upper_layer import Begun

_LOG = logging.getLogger("dimse_proxy")
_SUCCESS, _NO_RESOURCES, _NOT_EXPECTED, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0x0124, 0xC000
_STUDY, _SERIES, _UID = _IDENTITY = (0x0020000D, 0x0020000E, 0x00080018)


class Taker(Protocol):
    """Who asked for instances."""

    def new_file(self) -> Path:
        """Return a name for a new file."""

    def take(self, instance: Instance) -> bool:
        """Take an instance that begins to come; return whether it was asked for, and isn't there yet."""

    def progress(self, instance: Instance) -> None:
        """Notice that more of an instance is there, or that it is whole or broken."""

    def fail(self, problem: str) -> None:
        """Notice that an instance couldn't be taken."""


class Arrival:
    """One instance on its way to the disk. It is made known as soon as its first bytes tell where it belongs."""

    def __init__(self, begun: Begun, find_taker: Callable[[str], Taker | None], spool: Callable[[], Path]) -> None:
        """`find_taker` is given the StudyInstanceUID; `spool` makes a name for the file."""
        self._begun = begun
        self._find_taker = find_taker
        self._taker: Taker | None = None
        self._is_refused = False
        self._problem = ""
        head = file_head(begun.sop_class, begun.uid, begun.syntax)
        self._start = len(head)
        self._instance = Instance(spool(), "", "", begun.uid, begun.sop_class, begun.syntax, 0)
        self._file: NewFile | None = None
        try:
            self._file = NewFile(self._instance.path, 0o640)
            self._write(self._file, head)
        except OSError as error:
            self._break(str(error.strerror))

    def write(self, part: memoryview) -> None:
        """Write a part, and tell that it is there."""
        if not self._file:
            return
        is_first = self._instance.size == self._start
        try:
            self._write(self._file, part)
        except OSError as error:
            self._break(str(error.strerror))
            return
        if is_first:
            self._place(read_texts(bytes(part[:BEGINNING_BYTES]), self._begun.syntax, _IDENTITY))
        elif self._taker:
            self._taker.progress(self._instance)

    def finish(self) -> int:
        """Return the status: the instance is whole."""
        if self._problem:
            return _NO_RESOURCES
        if not self._taker and not self._is_refused:
            try:
                with self._instance.path.open("rb") as file:
                    file.seek(self._start)
                    self._place(read_texts_slowly(file, self._begun.syntax, _IDENTITY))
            except Exception:
                _LOG.warning("refused an instance that can't be read: %.64s", self._begun.uid)
                self._drop()
                return _CANNOT_UNDERSTAND
        if not self._taker:
            return _NOT_EXPECTED if self._is_refused else _SUCCESS
        self._close()
        self._instance.state = "whole"
        self._taker.progress(self._instance)
        return _SUCCESS

    def abandon(self) -> None:
        """Forget it: it broke off."""
        self._break("it broke off")

    def _place(self, identity: dict[int, str] | None) -> None:
        """Find who asked for it, where its identity is known."""
        if identity is None:
            return
        self._instance.study, self._instance.series = identity[_STUDY], identity[_SERIES]
        self._instance.uid = identity[_UID] or self._begun.uid
        taker = self._find_taker(identity[_STUDY])
        if taker is None:
            _LOG.warning("refused an instance that nobody asked for: %.64s", self._begun.uid)
            self._is_refused = True
            self._drop()
        elif taker.take(self._instance):
            self._taker = taker
        else:
            # It was there already: archives send some twice.
            self._drop()

    def _write(self, file: NewFile, part: bytes | memoryview) -> None:
        file.write(part)
        self._instance.size += len(part)

    def _break(self, problem: str) -> None:
        self._problem = problem
        self._instance.state = "broken"
        self._close()
        if self._taker:
            self._taker.fail(f"instance {self._instance.uid}: {problem}")
            self._taker.progress(self._instance)
        else:
            self._drop()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file:
            file.close()

    def _drop(self) -> None:
        self._close()
        self._instance.path.unlink(missing_ok=True)
