"""The tree as what a Query/Retrieve SCP gives out (PS3.4 annex C)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicomweb.dataset import Dataset as Json
from dicomweb.dataset import first
from dicomweb.errors import RequestError
from dicomweb.levels import UNIQUE
from dicomweb.pixels import transcoded
from dicomweb.query import Matching, Query
from dimse.holding import IdentifierError
from dimse.part10 import decoded, encoded, read_syntax
from dimse.upper_layer import Request
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from static_dicomweb.archive import stored_syntax
from static_dicomweb.index import Index
from static_dicomweb.layout import Layout
from static_dicomweb.qido import Search
from static_dicomweb.store import dicom

_LOG = logging.getLogger("static_dicomweb")
_LEVEL, _CHARACTER_SET = 0x00080052, 0x00080005
_PATIENT_ID, _SOP_CLASS = "00100020", "00080016"
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class _Asked:
    """An identifier: its level, the values to match, and all attributes that are to be returned."""

    level: str
    query: Query
    returned: list[int]

    def uids(self, level: str) -> list[str]:
        """Return the UIDs that are asked for at a level."""
        return [uid for uid in str(self.query.matching.get(UNIQUE[level], "")).replace(",", "\\").split("\\") if uid]


def _read(request: Request) -> _Asked:
    try:
        identifier = decoded(request.identifier, request.syntax)
        level = str(identifier.get("QueryRetrieveLevel") or "").strip()
        query = Query()
        query.matching, query.include = _keys(identifier)
    except Exception as error:
        raise IdentifierError(f"it can't be read: {error}") from None
    if level not in ("PATIENT", *UNIQUE):
        raise IdentifierError(f"Query/Retrieve Level is {level[:16]!r}")
    return _Asked(level, query, [int(element.tag) for element in identifier if element.tag not in (_LEVEL, _CHARACTER_SET)])


def _keys(identifier: Dataset) -> tuple[Matching, set[str]]:
    matching: Matching = {}
    include: set[str] = set()
    for element in identifier:
        name = f"{element.tag:08X}"
        if element.tag in (_LEVEL, _CHARACTER_SET) or element.tag.element == 0:
            continue
        if element.VR == "SQ":
            inner = _keys(element.value[0])[0] if element.value else {}
            if inner:
                matching[name] = inner
        else:
            value = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value or "")
            if value not in ("", "*"):
                matching[name] = value
        include.add(name)
    return matching, include


class TreeHolding:
    """The published instances of a tree, for who asks by DIMSE."""

    def __init__(self, layout: Layout, title: str, entities: Mapping[str, tuple[str, int]]) -> None:
        """`title` is told as where to retrieve from; `entities` are the destinations of C-MOVE, host and port by AE title."""
        self._layout = layout
        self._title = title
        self._entities = entities

    def address(self, title: str) -> tuple[str, int] | None:
        """Return host and port of a destination, None for one that isn't known."""
        return self._entities.get(title)

    def find(self, request: Request) -> Iterator[bytes]:
        """Yield what matches, in the request's transfer syntax; raise IdentifierError."""
        asked = _read(request)
        patients: set[str] = set()
        for found in self._search(asked, "STUDY" if asked.level == "PATIENT" else asked.level):
            if asked.level == "PATIENT":
                patient = str(first(found, _PATIENT_ID) or "")
                if patient in patients:
                    continue
                patients.add(patient)
            yield self._identifier(found, asked, request.syntax)

    def _search(self, asked: _Asked, lowest: str) -> Iterator[Json]:
        levels = list(UNIQUE)
        above = levels[: levels.index(lowest) + 1]
        # One study is looked up; without, all of them are looked through.
        given = {level: asked.uids(level)[0] for level in above[:2] if len(asked.uids(level)) == 1}
        given = given if "STUDY" in given else {}
        try:
            with contextlib.closing(Index(self._layout.root)) as index:
                yield from Search(self._layout, index, lowest, asked.query, given).results()
        except RequestError as error:
            raise IdentifierError(error.message) from None

    def _identifier(self, found: Json, asked: _Asked, syntax: str) -> bytes:
        dataset = Dataset()
        for tag in asked.returned:
            name = f"{tag:08X}"
            if name in found:
                dataset.update(Dataset.from_json({name: found[name]}))
            else:
                dataset.setdefault(Tag(tag), None)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.QueryRetrieveLevel = asked.level
        dataset.RetrieveAETitle = self._title
        return encoded(dataset, syntax)

    def instances(self, request: Request) -> list[TreeInstance]:
        """Return the instances that are asked for; raise IdentifierError."""
        asked = _read(request)
        key = _PATIENT_ID if asked.level == "PATIENT" else UNIQUE[asked.level]
        if key not in asked.query.matching:
            raise IdentifierError(f"at level {asked.level} it has no {'PatientID' if asked.level == 'PATIENT' else 'UID'}")
        # The level says what else counts (PS3.4 C.4.2.2.1): the keys that are unique.
        unique = {_PATIENT_ID, *UNIQUE.values()}
        query = Query({tag: value for tag, value in asked.query.matching.items() if tag in unique}, {_SOP_CLASS})
        found = []
        for each in self._search(_Asked(asked.level, query, []), "IMAGE"):
            study, series, uid = (str(first(each, tag)) for tag in UNIQUE.values())
            directory = self._layout.instance(study, series, uid)
            with contextlib.suppress(RequestError):
                found.append(TreeInstance(self._layout, directory, str(first(each, _SOP_CLASS)), uid, stored_syntax(directory)))
        return found


@dataclass
class TreeInstance:
    """An instance of the tree that can be sent."""

    layout: Layout
    directory: Path
    sop_class: str
    uid: str
    syntax: str

    def parts(self, syntax: str) -> Iterable[bytes]:
        """Return its dataset in a transfer syntax, in parts; raise OSError or ValueError where that can't be."""
        made = self.layout.new()
        with made.open("wb") as file:
            file.writelines(dicom(self.directory))
        if syntax != self.syntax:
            other = self.layout.new()
            try:
                transcoded(made, syntax, other)
            except RequestError as error:
                raise ValueError(error.message) from None
            finally:
                made.unlink()
            made = other
        return _dataset_of(made)


def _dataset_of(path: Path) -> Iterator[bytes]:
    """Yield the dataset of a file in parts, and remove the file."""
    with path.open("rb") as file:
        path.unlink()
        read_syntax(file)
        while piece := file.read(_PIECE_BYTES):
            yield piece
