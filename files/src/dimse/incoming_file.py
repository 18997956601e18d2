"""An instance that is written to a file as it comes (Storage SCP, PS3.4 annex B)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dimse.new_file import NewFile
from dimse.part10 import BEGINNING_BYTES, file_head, read_texts, read_texts_slowly
from dimse.upper_layer import Begun


class IncomingFile:
    """File Meta Information and a dataset on their way to the disk. What `finish` does with them is for who derives from it."""

    def __init__(self, begun: Begun, make: Callable[[], NewFile], fail: Callable[[OSError], None]) -> None:
        """`make` begins the file; `fail` is told once that it could not be made or written, and what comes then is left."""
        self._begun = begun
        self._fail = fail
        self._file: NewFile | None = None
        self._beginning = b""
        head = file_head(begun.sop_class, begun.uid, begun.syntax)
        self._start = len(head)
        try:
            self._file = make()
        except OSError as error:
            fail(error)
        self._write(head)

    def write(self, part: memoryview) -> None:
        """Write a part, unless an earlier one could not be."""
        self._beginning = self._beginning or bytes(part[:BEGINNING_BYTES])
        self._write(part)

    def _write(self, part: bytes | memoryview) -> None:
        if self._file:
            try:
                self._file.write(part)
            except OSError as error:
                self._fail(error)
                self.abandon()

    def _taken(self) -> NewFile | None:
        """Return the file, which is whoever's asks for it; None where it could not be written."""
        file, self._file = self._file, None
        return file

    def _texts(self, file: NewFile, tags: Collection[int]) -> dict[int, str]:
        """Return text attributes of what was written; raise what pydicom raises where they can't be read."""
        found = read_texts(self._beginning, self._begun.syntax, tags)
        if found:
            return found
        with file.path.open("rb") as written:
            written.seek(self._start)
            return read_texts_slowly(written, self._begun.syntax, tags)

    def abandon(self) -> None:
        """Forget it: it broke off."""
        file = self._taken()
        if file:
            file.drop()
