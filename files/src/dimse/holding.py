"""What a Query/Retrieve SCP (PS3.4 annex C) gives out, whoever holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from pydicom.dataset import Dataset

from dimse.part10 import encoded
from dimse.upper_layer import Request

PATIENT_ROOT, STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.1", "1.2.840.10008.5.1.4.1.2.2"
QUERY_RETRIEVE = frozenset(f"{root}.{number}" for root in (PATIENT_ROOT, STUDY_ROOT) for number in (1, 2, 3))
"""SOP classes of C-FIND, C-MOVE and C-GET."""

# Statuses (PS3.4 C.4, PS3.7 annex C).
SUCCESS, PENDING, SOME_FAILED, UNABLE_TO_PERFORM = 0x0000, 0xFF00, 0xB000, 0xA702
UNKNOWN_DESTINATION, IDENTIFIER_MISMATCH, REFUSED = 0xA801, 0xA900, 0x0122


class IdentifierError(Exception):
    """An identifier asks for what can't be; says why."""


class Held(Protocol):
    """An instance that can be sent."""

    sop_class: str
    uid: str
    syntax: str
    """The transfer syntax in which it is stored."""

    def parts(self, syntax: str) -> Iterable[bytes]:
        """Return its dataset in a transfer syntax, in parts; raise OSError or ValueError where that can't be."""


class Holding(Protocol):
    """Where instances are."""

    def find(self, request: Request) -> Iterator[bytes]:
        """Yield the identifiers that match, in the request's transfer syntax; raise IdentifierError."""

    def instances(self, request: Request) -> Sequence[Held]:
        """Return the instances that a C-GET or C-MOVE asks for; raise IdentifierError."""

    def address(self, title: str) -> tuple[str, int] | None:
        """Return host and port of a destination of C-MOVE, None for one that isn't known."""


def failed_list(uids: Sequence[str], syntax: str) -> bytes:
    """Return the identifier of a final response that names the instances which could not be sent (PS3.4 C.4.2.1.4.2)."""
    dataset = Dataset()
    dataset.FailedSOPInstanceUIDList = list(uids)
    return encoded(dataset, syntax)
