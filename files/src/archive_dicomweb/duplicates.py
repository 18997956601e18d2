"""Whether what is stored under a UID is what somebody stores again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from dicomweb.metadata import PIXELS, bulk, bulk_paths, model, opened
from dimse.part10 import DEFLATED, read_syntax

_PIECE_BYTES = 1 << 20
# Of a file whose attributes are compared, which takes its values into memory.
_LARGEST_READ = 64 << 20
# Padding, tables of the places of frames, and what tells how pixels are encoded, whatever they show.
_PADDING = frozenset({"FFFCFFFC"})
_ENCODING = PIXELS | {"7FE00001", "7FE00002", "00280004", "00280006"}


def is_same_instance(stored: Path, given: Path) -> bool:
    """Return whether two DICOM files have the same instance, however each was written.

    Pixels are compared where their transfer syntaxes are the same. A file that can't be read is none that is the same; of one of
    more than 64 MB, or one that is deflated, what stands behind its head is to be the same byte for byte.
    """
    try:
        with stored.open("rb") as one, given.open("rb") as other:
            syntaxes = {read_syntax(one), read_syntax(other)}
            is_one_syntax = len(syntaxes) == 1
            if is_one_syntax and _has_same_rest(one, other):
                return True
        if DEFLATED in syntaxes or max(stored.stat().st_size, given.stat().st_size) > _LARGEST_READ:
            return False
        ignored = _PADDING if is_one_syntax else _PADDING | _ENCODING
        return _contents(stored, ignored) == _contents(given, ignored)
    except Exception:
        return False


def _has_same_rest(one: BinaryIO, other: BinaryIO) -> bool:
    while True:
        piece = one.read(_PIECE_BYTES)
        if piece != other.read(_PIECE_BYTES):
            return False
        if not piece:
            return True


def _contents(path: Path, ignored: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return an instance's attributes, and of its large values what tells them apart."""
    dataset = opened(path)
    attributes = {tag: attribute for tag, attribute in model(dataset, "").items() if tag not in ignored}
    values = {name: hash(bulk(dataset, name)) for name in bulk_paths(attributes)}
    # PS3.5 A.4 has encapsulated pixels as OB, and some files have them as OW.
    return attributes | {tag: {} for tag in PIXELS & attributes.keys()}, values
