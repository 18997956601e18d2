"""Makes of a DICOM file what is served of its instance."""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from dicomweb.attributes import is_uid
from dicomweb.dataset import write_json
from dicomweb.errors import RequestError
from dicomweb.frame_table import PIXEL_KEYWORDS, frame_count
from dicomweb.metadata import PIXELS, bulk, bulk_paths, model
from dicomweb.pixels import Rendering, frames_there, rendered
from dicomweb.syntaxes import NATIVE, frame_type
from dimse.part10 import BEGINNING_BYTES, DEFLATED, EXPLICIT, read_syntax, refuse_bomb
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from static_dicomweb.composition import include, is_composed_of, is_plain
from static_dicomweb.composition import parts as parts_of
from static_dicomweb.layout import SHARED_NAME, address

_LOG = logging.getLogger("static_dicomweb")
_UNDEFINED = 0xFFFFFFFF
_END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0"
_LARGEST_PLAIN = 1024
_THUMBNAIL = Rendering(quality=75)
# What is decoded for a thumbnail has no more bytes than this: an image may claim any size.
_LARGEST_DECODED = 1 << 30
# Attributes of which each instance of a series mostly has its own (PS3.3 C.7.6 and others). Where others differ, too, fewer share.
_OWN = frozenset(
    {
        *("00080008", "00080012", "00080013", "00080018", "00080022", "00080023", "0008002A", "00080032", "00080033"),
        *("00081140", "00081155", "00082112", "00180050", "00180088", "00181060", "00181114", "00181120", "00181150"),
        *("00181151", "00181152", "00181153", "00181160", "00181210", "00189073", "00189345", "00200012", "00200013"),
        *("00200032", "00200037", "00200100", "00201002", "00201041", "00204000", "00280008", "00280106", "00280107"),
        *("00280120", "00281050", "00281051", "00281052", "00281053", "0040A730"),
    }
)


class UnreadableError(Exception):
    """A file can't be rendered; says why."""


@dataclass
class Rendered:
    """What is to be written of an instance: files by their names, and links to what is shared, by its content."""

    study: str
    series: str
    uid: str
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Names of files, and the names in `shared` that they point at."""
    shared: dict[str, bytes] = field(default_factory=dict)

    def share(self, content: bytes) -> str:
        """Return the name of what instances have in common."""
        name = hashlib.sha256(content).hexdigest()[:32]
        self.shared[name] = content
        return name


def read(content: bytes) -> Dataset:
    """Return the dataset of a DICOM file; raise UnreadableError."""
    if content[128:132] != b"DICM":
        raise UnreadableError("no DICOM file (PS3.10)" if content else "an empty file")
    try:
        _refuse_bomb(content)
        dataset = dcmread(BytesIO(content))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
    except UnreadableError:
        raise
    except (InvalidDicomError, AttributeError):
        raise UnreadableError("it doesn't say its transfer syntax") from None
    except Exception as error:
        raise UnreadableError(f"it can't be read: {str(error)[:150] or type(error).__name__}") from None
    for element in dataset.values():
        if isinstance(element, RawDataElement) and element.length != _UNDEFINED and len(element.value or b"") != element.length:
            raise UnreadableError(f"it ends within {element.tag}")
    if dataset and syntax != DEFLATED and not _is_ended(dataset, content):
        raise UnreadableError("it ends within its pixels")
    return dataset


def _refuse_bomb(content: bytes) -> None:
    file = BytesIO(content)
    # Its UID is among the first elements, if it is there at all.
    if DEFLATED.encode() in content[:BEGINNING_BYTES] and read_syntax(file) == DEFLATED:
        try:
            refuse_bomb(file)
        except ValueError as error:
            raise UnreadableError(str(error)) from None


def _is_ended(dataset: Dataset, content: bytes) -> bool:
    """Return whether encapsulated pixels, where they are the last element, have their end."""
    last = dataset.get_item(list(dataset.keys())[-1])
    is_open = isinstance(last, RawDataElement) and last.tag in PIXEL_KEYWORDS and last.length == _UNDEFINED
    return not is_open or content.rstrip(b"\0").endswith(_END_OF_SEQUENCE)


def identity(dataset: Dataset) -> tuple[str, str, str]:
    """Return the UIDs of an instance, its study and series first; raise UnreadableError where one is none."""
    found = []
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uid = str(dataset.get(keyword) or "").strip(" \0")
        if not is_uid(uid):
            raise UnreadableError(f"its {keyword} is {uid[:70]!r}, which is no UID" if uid else f"it has no {keyword}")
        found.append(uid)
    return found[0], found[1], found[2]


def render(dataset: Dataset, content: bytes, base: str) -> Rendered:
    """Return what is served of an instance, which `read` has read; `base` is the address of the tree. Raises UnreadableError."""
    try:
        return _rendered(dataset, content, base)
    except UnreadableError:
        raise
    except Exception as error:
        # Whatever somebody's equipment has written, other files are rendered.
        raise UnreadableError(f"it can't be rendered: {type(error).__name__}: {str(error)[:150]}") from error


def _rendered(dataset: Dataset, content: bytes, base: str) -> Rendered:
    made = Rendered(*identity(dataset))
    url = f"{base}/studies/{made.study}/series/{made.series}/instances/{made.uid}"
    attributes = model(dataset, f"{url}/bulkdata")
    has_frames = _add_frames(made, dataset, content)
    _add_bulk_data(made, dataset, attributes)
    _add_metadata(made, attributes)
    if has_frames:
        _add_thumbnail(made, dataset)
    return made


def _add_frames(made: Rendered, dataset: Dataset, content: bytes) -> bool:
    """Add the file, in pieces where it has frames; return whether it has any."""
    tag = next((Tag(tag) for tag in PIXEL_KEYWORDS if tag in dataset), None)
    contents = _frames(made.uid, dataset) if tag else []
    value = (dataset[tag].value or b"") if tag else b""
    if tag is None or not contents:
        if value:
            made.files[f"bulkdata-{tag:08X}"] = value
        made.files["dicom.dcm"] = content
        return False
    stored = str(dataset.file_meta.TransferSyntaxUID)
    # What isn't encapsulated is served as explicit little endian.
    syntax = EXPLICIT if stored in NATIVE else stored
    end = syntax.rpartition(".")[2]
    names = [f"frame-{number}.{end}" for number in range(1, len(contents) + 1)]
    made.files |= dict(zip(names, contents, strict=True))
    kind = frame_type(syntax)
    part = made.share(parts_of([(kind, f"frame-$static_frame.{end}")]))
    made.links |= {f"frame-{number}.ssi": part for number in range(1, len(contents) + 1)}
    if stored in NATIVE and sum(map(len, contents)) != len(value):
        # Frames of single bits, or a pad after them.
        made.files[f"bulkdata-{tag:08X}"] = value
    elif stored in NATIVE:
        made.links[f"bulkdata-{tag:08X}.ssi"] = made.share(b"".join(map(include, names)))
    else:
        # A part for each frame (PS3.18 8.7.3.3).
        made.links[f"bulkdata-{tag:08X}.parts.ssi"] = made.share(parts_of((kind, name) for name in names))
    _compose(made, dataset, content, names)
    return True


def _frames(uid: str, dataset: Dataset) -> list[bytes]:
    try:
        made = frames_there(dataset)
    except RequestError as error:
        # The instance is served, and no frame of it.
        _LOG.warning("instance %s has no frames: %s", uid, error.message)
        return []
    if len(made) < frame_count(dataset):
        _LOG.warning("instance %s has %d of %d frames", uid, len(made), frame_count(dataset))
    return made


def _compose(made: Rendered, dataset: Dataset, content: bytes, names: list[str]) -> None:
    """Have the file put together of its frames and what is around them, where it is made of just these."""
    pieces = list(_around(dataset, content, [made.files[name] for name in names]))
    if not pieces or not is_composed_of(content, (piece for pair in pieces for piece in pair)):
        made.files["dicom.dcm"] = content
        return
    composition = b""
    for number, ((before, _), name) in enumerate(zip(pieces, [*names, ""], strict=True)):
        if number and len(before) <= _LARGEST_PLAIN and is_plain(before):
            composition += before
        elif before:
            own = f"part{number}" if number else "head"
            made.files[own] = before
            composition += include(own)
        if name:
            composition += include(name)
    made.links["dicom.ssi"] = made.share(composition)


def _around(dataset: Dataset, content: bytes, contents: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield what stands before each frame, and the frame; then what stands after the last one, and nothing."""
    raw = next(dataset.get_item(tag) for tag in PIXEL_KEYWORDS if tag in dataset)
    at = raw.value_tell if isinstance(raw, RawDataElement) else raw.file_tell
    if not isinstance(at, int) or str(dataset.file_meta.TransferSyntaxUID) == DEFLATED:
        return
    before = 0
    is_encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if is_encapsulated:
        # The offset table's item.
        at += 8 + struct.unpack_from("<I", content, at + 4)[0]
    for frame in contents:
        if is_encapsulated:
            at += 8
        yield content[before:at], frame
        at = before = at + len(frame)
    yield content[before:], b""


def _add_bulk_data(made: Rendered, dataset: Dataset, attributes: dict[str, Any]) -> None:
    for path in bulk_paths(attributes):
        if path in PIXELS:
            continue
        made.files[f"bulkdata-{path}"] = bulk(dataset, path)


def _add_metadata(made: Rendered, attributes: dict[str, Any]) -> None:
    own: dict[str, Any] = {}
    public: dict[str, Any] = {}
    private: dict[str, Any] = {}
    for tag, attribute in attributes.items():
        if tag in _OWN or tag[:2] in ("52", "54") or next(bulk_paths({tag: attribute}), None):
            own[tag] = attribute
        else:
            (private if int(tag[3], 16) % 2 else public)[tag] = attribute
    composition = b"[{" + _members(own)
    for attributes_shared in (public, private):
        if attributes_shared:
            name = made.share(_members(attributes_shared))
            composition += b"," + include(address(made.study, SHARED_NAME, name))
    made.files["metadata.ssi"] = composition + b"}]"


def _members(attributes: dict[str, Any]) -> bytes:
    """Return attributes as the members of an object: without its braces, and without `<`."""
    return write_json(attributes)[1:-1].replace("<", "\\u003c").encode("utf-8", "replace")


def _add_thumbnail(made: Rendered, dataset: Dataset) -> None:
    try:
        size = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * int(dataset.get("SamplesPerPixel") or 1)
        if 0 < size * 8 <= _LARGEST_DECODED:
            made.files["thumbnail.jpg"] = rendered(dataset, None, _THUMBNAIL, is_thumbnail=True)
    except Exception as error:
        # What can't be decoded here, a viewer may decode.
        _LOG.info("instance %s has no thumbnail: %s", made.uid, str(error)[:150])
