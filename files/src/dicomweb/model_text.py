"""The DICOM JSON model of a file as text (PS3.18 annex F), made of texts that were made before.

Instances of a series have most of their attributes in common, byte for byte. What an attribute's bytes become is kept, so that the
next instance costs no more than finding where its attributes begin and end. What can't be read that simply is left to pydicom.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from dimse.part10 import EXPLICIT, LONG_VRS
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from dicomweb.attributes import VRS, vrs_of
from dicomweb.dataset import write_json
from dicomweb.metadata import LARGEST_TEXT, PIXELS, model, read_model

_VRS = LONG_VRS | frozenset(vr.encode() for vr in VRS)
_ENCAPSULATED = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_UNDEFINED = 0xFFFFFFFF
_HEAD, _LENGTH, _LONG_HEAD = struct.Struct("<HH2sH"), struct.Struct("<I"), 12
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET = 0x00080005
_WINDOW_BYTES = 1 << 16
_LARGEST_SEQUENCE = 1 << 20
_DEEPEST = 16
# Attributes of which each instance has its own, as they mostly are written: each way that isn't seen here is left to pydicom.
_NUMBER = rb" *[+-]?\d{1,9}(?:\.\d{0,9})? *"
_PLAIN = {
    b"DA": re.compile(rb"\d{8}"),
    b"DS": re.compile(rb"%b(?:\\%b)*" % (_NUMBER, _NUMBER)),
    b"IS": re.compile(rb" *[+-]?\d{1,9} *"),
    b"TM": re.compile(rb"\d{4}(?:\d\d(?:\.\d{1,6})?)? ?"),
    b"UI": re.compile(rb"[0-9.]+\0?"),
}
# Addresses of bulk data are put in at last. A value's own quotation marks are escaped, so no value looks like this.
_ADDRESS = '"BulkDataURI":"'
# Texts by what they were made of; of values up to 1,024 bytes, and of sequences up to 4 KB.
_attributes: dict[tuple[Any, ...], str] = {}
_sequences: dict[tuple[Any, ...], str] = {}
_MOST_ATTRIBUTES, _MOST_SEQUENCES = 20_000, 1_000
_LARGEST_ATTRIBUTE, _LARGEST_KEPT_SEQUENCE = 1024, 1 << 12


# What many files have one after the other: at least so many attributes, of so many bytes at most, and so many bytes in all.
_FEWEST, _LARGEST_RUN, _MOST_RUNS = 4, 1 << 14, 1 << 22
# So many attributes that were read one by one are worth looking for what they have in common with the last file's.
_MANY_ALONE = 16
# A file with more attributes than this has nothing learned of it, and one with more private creators is left to pydicom.
_MOST_READ, _MOST_CREATORS = 1000, 50


class _NotSoSimpleError(Exception):
    """pydicom is to read this file."""


def model_text(path: Path, bulk_url: str) -> str:
    """Return a file's dataset in the DICOM JSON model, with addresses below `bulk_url` in place of large values.

    Raises RequestError (502) where it can't be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            text = _Reader(file.fileno()).text()
    except Exception:
        # Too deep, broken, or just not so simple: what it is, or what is wrong with it, pydicom says.
        return write_json(read_model(path, bulk_url))
    return text.replace(_ADDRESS, f"{_ADDRESS}{bulk_url}/")


# What an attribute's text depends on beside its bytes: the character set, and who has made private ones (PS3.5 7.8.1).
_State = tuple[bytes | None, tuple[tuple[int, bytes], ...]]
_NO_STATE: _State = (None, ())


class _Read(NamedTuple):
    """An attribute that was read: its tag, its bytes unless they are many, its text, and what was so before and after it."""

    tag: int
    content: bytes | None
    text: str
    before: _State
    after: _State


class _Run:
    """Attributes that came one after the other in several files, byte for byte the same."""

    def __init__(self, attributes: Sequence[_Read]) -> None:
        self.attributes = attributes
        self.first, self.last = attributes[0].tag, attributes[-1].tag
        self.content = b"".join(each.content or b"" for each in attributes)
        self.text = ",".join(filter(None, (each.text for each in attributes)))
        self.after = attributes[-1].after


class _Runs:
    """The runs that were found, by how they begin and by what was so before them."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, _State], list[_Run]] = {}
        self._bytes = 0
        self._last_file: dict[int, bytes | None] = {}

    def find(self, window: bytes, begin: int, state: _State) -> _Run | None:
        """Return the run that begins there, if one does."""
        runs = self._known.get((window[begin : begin + _HEAD.size], state), ())
        return next((run for run in runs if window.startswith(run.content, begin)), None)

    def learn(self, attributes: Sequence[_Read]) -> None:
        """Have what a file has in common with the one before found from now on."""
        same: list[_Read] = []
        size = 0
        for each in attributes:
            content = each.content
            is_same = content is not None and self._last_file.get(each.tag) == content
            if not is_same or size > _LARGEST_RUN:
                self._add(same)
                same, size = [], 0
            if content is not None and is_same:
                same.append(each)
                size += len(content)
        self._add(same)
        self._last_file = {each.tag: each.content for each in attributes}

    def _add(self, attributes: list[_Read]) -> None:
        if len(attributes) < _FEWEST:
            return
        run = _Run(attributes)
        if self._bytes > _MOST_RUNS:
            self._known.clear()
            self._bytes = 0
        runs = self._known.setdefault((run.content[: _HEAD.size], attributes[0].before), [])
        if all(other.content != run.content for other in runs):
            # The longest is looked for first. A few are enough: what begins alike goes on in a few ways.
            runs[:] = sorted((run, *runs), key=lambda each: -len(each.content))[:_FEWEST]
            self._bytes += 2 * len(run.content) + len(run.text)


_runs = _Runs()


class _Reader:
    """Reads a file's attributes one after the other, a window of it at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start, self._window = 0, b""
        self._characters: bytes | None = None
        self._creators: dict[int, bytes] = {}
        self._state = _NO_STATE

    def _bytes(self, at: int, count: int) -> bytes:
        """Return so many bytes of the file."""
        if at < self._start or at + count > self._start + len(self._window):
            if at + count > self._size:
                raise _NotSoSimpleError
            self._start, self._window = at, os.pread(self._descriptor, max(_WINDOW_BYTES, count), at)
            if len(self._window) < count:
                raise _NotSoSimpleError
        begin = at - self._start
        return self._window[begin : begin + count]

    def text(self) -> str:
        """Return the model, its addresses without what stands before them."""
        at = self._after_meta()
        made: list[str] = []
        read: list[_Read] = []
        last = alone = 0
        while at < self._size:
            self._bytes(at, min(_LONG_HEAD, self._size - at))
            window, begin, before = self._window, at - self._start, self._state
            run = _runs.find(window, begin, before)
            if run and run.first > last:
                self._resume(run.after)
                made.append(run.text)
                if len(read) <= _MOST_READ:
                    read += run.attributes
                last = run.last
                at += len(run.content)
                continue
            alone += 1
            group, number, vr, length = _HEAD.unpack_from(window, begin)
            tag = group << 16 | number
            if tag <= last or group < 8 or vr not in _VRS:
                raise _NotSoSimpleError
            last = tag
            head = 8
            if vr in LONG_VRS:
                (length,) = _LENGTH.unpack_from(window, begin + 8)
                head = _LONG_HEAD
            if length <= _LARGEST_ATTRIBUTE:
                # Nearly all of them: what such bytes became is known.
                value = window[begin + head : begin + head + length]
                text = _attributes.get((tag, vr, value, self._characters, self._creator(group, number) if group & 1 else None))
                if text is not None and len(value) == length:
                    self._remember(tag, value)
                    made.append(text)
                    if len(read) <= _MOST_READ:
                        read.append(_Read(tag, window[begin : begin + head + length], text, before, self._state))
                    at += head + length
                    continue
            end = self._end(at + head, vr, length)
            text = self._attribute(tag, vr, at + head, end, length) if number else ""
            made.append(text)
            if len(read) <= _MOST_READ:
                content = self._bytes(at, end - at) if end - at <= _LARGEST_KEPT_SEQUENCE else None
                read.append(_Read(tag, content, text, before, self._state))
            at = end
        if alone > _MANY_ALONE and len(read) <= _MOST_READ:
            _runs.learn(read)
        return "{" + ",".join(filter(None, made)) + "}"

    def _remember(self, tag: int, value: bytes) -> None:
        """Remember what the attributes that follow depend on."""
        if tag == _CHARACTER_SET:
            self._characters = value
        elif tag & 0x10000 and tag & 0xFFFF < 0x100:
            self._creators[tag] = value
            if len(self._creators) > _MOST_CREATORS:
                raise _NotSoSimpleError
        else:
            return
        self._state = (self._characters, tuple(self._creators.items()))

    def _resume(self, state: _State) -> None:
        """Go on where attributes were read before."""
        if state is not self._state:
            self._state = state
            self._characters, self._creators = state[0], dict(state[1])

    def _creator(self, group: int, number: int) -> bytes | None:
        """Return who has made a private attribute; nobody where it is none."""
        return self._creators.get(group << 16 | number >> 8) if group & 1 and number >= 0x1000 else None

    def _after_meta(self) -> int:
        """Return where the dataset begins, one of explicit VR in little endian."""
        if self._bytes(0, 132)[128:] != b"DICM":
            raise _NotSoSimpleError
        at, syntax = 132, b""
        while at + 12 <= self._size:
            group, number, vr, length = struct.unpack("<HH2sH", self._bytes(at, 8))
            if group != 2:
                break
            if vr not in _VRS:
                raise _NotSoSimpleError
            start = at + 8
            if vr in LONG_VRS:
                (length,), start = struct.unpack("<I", self._bytes(at + 8, 4)), at + 12
            if number == 0x0010:
                syntax = self._bytes(start, length).rstrip(b"\0 ")
            at = start + length
        if syntax.decode("latin-1") != EXPLICIT and not syntax.startswith(_ENCAPSULATED):
            raise _NotSoSimpleError
        return at

    def _end(self, start: int, vr: bytes, length: int) -> int:
        """Return where an attribute's value ends."""
        if length != _UNDEFINED:
            return start + length
        if vr == b"SQ":
            return self._after_items(start, 0)
        if vr in (b"OB", b"OW"):
            return self._after_fragments(start)
        raise _NotSoSimpleError

    def _after_fragments(self, at: int) -> int:
        while True:
            tag, length = self._item(at)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or length == _UNDEFINED:
                raise _NotSoSimpleError
            at += length

    def _after_items(self, at: int, depth: int) -> int:
        if depth > _DEEPEST:
            raise _NotSoSimpleError
        while True:
            tag, length = self._item(at)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise _NotSoSimpleError
            at = self._after_item(at, depth) if length == _UNDEFINED else at + length

    def _after_item(self, at: int, depth: int) -> int:
        while True:
            tag, _ = self._item(at)
            if tag == _ITEM_END:
                return at + 8
            vr = self._bytes(at + 4, 2)
            if vr not in _VRS:
                raise _NotSoSimpleError
            if vr in LONG_VRS:
                (length,), start = struct.unpack("<I", self._bytes(at + 8, 4)), at + 12
            else:
                (length,), start = struct.unpack("<H", self._bytes(at + 6, 2)), at + 8
            if length != _UNDEFINED:
                at = start + length
            elif vr == b"SQ":
                at = self._after_items(start, depth + 1)
            else:
                raise _NotSoSimpleError

    def _item(self, at: int) -> tuple[int, int]:
        group, number, length = struct.unpack("<HHI", self._bytes(at, 8))
        return group << 16 | number, length

    def _attribute(self, tag: int, vr: bytes, start: int, end: int, length: int) -> str:
        """Return an attribute's text with its name; nothing where the model hasn't it."""
        name = f"{tag:08X}"
        if vr == b"SQ":
            return self._sequence(tag, name, start, end, length)
        size = end - start
        if length == _UNDEFINED and name not in PIXELS:
            raise _NotSoSimpleError
        if size > (0 if name in PIXELS else LARGEST_TEXT):
            if tag == _CHARACTER_SET:
                raise _NotSoSimpleError
            return f'"{name}":{{"vr":"{vr.decode()}",{_ADDRESS}{name}"}}'
        value = self._bytes(start, size)
        creator = self._creator(tag >> 16, tag & 0xFFFF)
        characters = self._characters
        self._remember(tag, value)
        plain = _PLAIN.get(vr) if tag != _CHARACTER_SET else None
        if plain and plain.fullmatch(value):
            return f'"{name}":{{"vr":"{vr.decode()}","Value":[{_plain_values(vr, value)}]}}'
        key = (tag, vr, value, characters, creator)
        text = _attributes.get(key)
        if text is None:
            raw = RawDataElement(BaseTag(tag), vr.decode(), size, value, start, False, True)
            text = self._made(name, raw, creator)
            if size <= _LARGEST_ATTRIBUTE:
                if len(_attributes) >= _MOST_ATTRIBUTES:
                    _attributes.clear()
                _attributes[key] = text
        return text

    def _made(self, name: str, raw: RawDataElement, creator: bytes | None) -> str:
        """Return the text of an attribute, by pydicom, beside what it depends on."""
        if raw.VR == "UN" and (creator is None or len(vrs_of(name)) > 1) and not raw.tag.is_private:
            raise _NotSoSimpleError
        elements: dict[BaseTag, DataElement | RawDataElement] = {raw.tag: raw}
        if self._characters is not None:
            tag = BaseTag(_CHARACTER_SET)
            elements.setdefault(tag, RawDataElement(tag, "CS", len(self._characters), self._characters, 0, False, True))
        if creator is not None:
            tag = BaseTag(raw.tag & 0xFFFF0000 | (raw.tag >> 8 & 0xFF))
            elements[tag] = RawDataElement(tag, "LO", len(creator), creator, 0, False, True)
        dataset = Dataset(elements)
        attribute = model(dataset, "").get(name)
        return _named(name, attribute)

    def _sequence(self, tag: int, name: str, start: int, end: int, length: int) -> str:
        if end - start > _LARGEST_SEQUENCE:
            raise _NotSoSimpleError
        content = self._bytes(start, end - start)
        key = (tag, content, length == _UNDEFINED, self._characters)
        text = _sequences.get(key)
        if text is None:
            head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, length)
            if self._characters is not None:
                head = struct.pack("<HH2sH", 8, 5, b"CS", len(self._characters)) + self._characters + head
            dataset = read_dataset(BytesIO(head + content), is_implicit_VR=False, is_little_endian=True)
            attribute = model(dataset, "").get(name)
            text = _named(name, attribute)
            if len(content) <= _LARGEST_KEPT_SEQUENCE:
                if len(_sequences) >= _MOST_SEQUENCES:
                    _sequences.clear()
                _sequences[key] = text
        return text


def _plain_values(vr: bytes, value: bytes) -> str:
    """Return the values of an attribute that is written as `_PLAIN` has it."""
    text = value.decode()
    if vr == b"DS":
        return ",".join(repr(float(each)) for each in text.split("\\"))
    return str(int(text)) if vr == b"IS" else f'"{text.rstrip(" " + chr(0))}"'


def _named(name: str, attribute: dict[str, Any] | None) -> str:
    """Return an attribute's text with its name, its addresses without what stands before them."""
    return "" if attribute is None else f'"{name}":{write_json(attribute)}'.replace(f"{_ADDRESS}/", _ADDRESS)
