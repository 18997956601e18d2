"""Bytes of DIMSE as no toolkit would send them."""

from __future__ import annotations

import struct

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import CTImageStorage


def item(kind: int, content: bytes) -> bytes:
    """Return an item of an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(content)) + content


def context(abstract: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a presentation context, the first of a request, with one transfer syntax."""
    return item(0x20, bytes((1, 0, 0, 0)) + item(0x30, abstract.encode()) + item(0x40, syntax.encode()))


def request(called: str, calling: str = "FRIEND", contexts: bytes | None = None) -> bytes:
    """Return a request for an association; without other contexts for one with CT in explicit VR little endian."""
    content = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + (context() if contexts is None else contexts)
    content += item(0x50, item(0x51, struct.pack(">I", 16384)))
    return struct.pack(">BxI", 1, len(content)) + content


def too_many_contexts(called: str, calling: str = "FRIEND") -> bytes:
    """Return a request of 1 MB, with 125,000 contexts where there can be 128."""
    return request(called, calling, struct.pack(">BxHBxxx", 0x20, 4, 1) * 125_000)


def fragments_of_a_command(fragment: bytes, count: int) -> bytes:
    """Return a P-DATA-TF with fragments of a command, of which none is the last (PS3.8 9.3.5)."""
    values = (struct.pack(">IBB", len(fragment) + 2, 1, 1) + fragment) * count
    return struct.pack(">BxI", 4, len(values)) + values
