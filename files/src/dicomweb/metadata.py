"""Metadata and bulk data of an instance (PS3.18 10.4.1.1.3, annex F)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import charset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicomweb.attributes import BULK_VRS, usual_vr, vrs_of
from dicomweb.dataset import element as made_element
from dicomweb.errors import LostError, RequestError
from dicomweb.frame_table import PIXEL_KEYWORDS
from dicomweb.instances import Instance
from dicomweb.model_values import numbers_of, values_of

# Latin alphabet 9 (PS3.3 C.12.1.1.2), which pydicom doesn't know yet.
charset.python_encoding |= dict.fromkeys(("ISO_IR 203", "ISO 2022 IR 203"), "iso8859_15")
charset.CODES_TO_ENCODINGS[b"\x1b-b"] = "iso8859_15"
# What is larger stays in the file until it is asked for by itself.
_LARGEST_INLINE, LARGEST_TEXT = 1024, 4096
PIXELS = frozenset(f"{tag:08X}" for tag in PIXEL_KEYWORDS)
"""Attributes that have pixels, as floating point numbers or as integers."""
_CHARACTER_SET = "00080005"
# Attributes as they were made before, by what they were made of: most are the same all through a series.
_remembered: dict[tuple[Any, ...], dict[str, Any]] = {}
_MOST_REMEMBERED = 20_000


def opened(path: Path) -> Dataset:
    """Return the dataset of a file; values that are large are left in it. Raises RequestError (502) where it can't be read."""
    try:
        return dcmread(path, defer_size=LARGEST_TEXT, force=True)
    except FileNotFoundError:
        raise LostError from None
    except Exception as error:
        raise RequestError(502, f"The instance can't be read: {error}.") from None


def read_model(path: Path, bulk_url: str) -> dict[str, Any]:
    """Return `model` of a file's dataset; raise RequestError (502) where it can't be read."""
    dataset = opened(path)
    try:
        return model(dataset, bulk_url)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(502, f"The instance can't be read: {str(error)[:200] or type(error).__name__}.") from None


def unread_model(instance: Instance) -> dict[str, Any]:
    """Return what is known of an instance that can't be read."""
    uids = {"00080016": instance.sop_class, "00080018": instance.uid, "0020000D": instance.study, "0020000E": instance.series}
    return {tag: made_element("UI", *filter(None, [uid])) for tag, uid in uids.items()}


def model(dataset: Dataset, bulk_url: str) -> dict[str, Any]:
    """Return a dataset in the DICOM JSON model, with addresses below `bulk_url` in place of large values.

    Its attributes are shared with other models: they are not to be changed.
    """
    return _model(dataset, f"{bulk_url}/", None)


def _model(dataset: Dataset, bulk_url: str, outer_characters: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    characters = _raw_value(dataset, _CHARACTER_SET) or outer_characters
    for tag in sorted(dataset.keys(), key=int):
        name = f"{tag:08X}"
        if tag.group == 2 or tag.element == 0:
            continue
        raw = dataset.get_item(tag, keep_deferred=True)
        key = None
        if isinstance(raw, RawDataElement):
            vr = _vr_of(raw, name)
            size = raw.length if raw.value is None else len(raw.value)
            if vr != "SQ" and size > (0 if name in PIXELS else LARGEST_TEXT):
                made[name] = {"vr": vr, "BulkDataURI": f"{bulk_url}{name}"}
                continue
            if _stands_for_itself(raw, name):
                key = (name, raw.VR, raw.value, raw.is_implicit_VR, raw.is_little_endian, characters)
        attribute = _remembered.get(key) if key else None
        if attribute is None:
            attribute = _read_attribute(dataset, tag, f"{bulk_url}{name}", characters)
            if key:
                if len(_remembered) >= _MOST_REMEMBERED:
                    _remembered.clear()
                _remembered[key] = attribute
        made[name] = attribute
    if _CHARACTER_SET in made:
        made[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return made


def _raw_value(dataset: Dataset, tag: str) -> Any:
    if tag not in dataset:
        return None
    value = dataset.get_item(tag).value
    return value if isinstance(value, (bytes, str)) else str(value)


def _vr_of(raw: RawDataElement, name: str) -> str:
    """Return an element's VR; where it doesn't say it, or pydicom says several, the usual one."""
    return usual_vr(name) if raw.VR is None or " or " in raw.VR else raw.VR


def _stands_for_itself(raw: RawDataElement, name: str) -> bool:
    """Return whether an attribute is made of its bytes alone: not of a private creator, nor of whether pixels are signed."""
    if raw.value is None or len(raw.value) > _LARGEST_INLINE:
        return False
    if raw.is_implicit_VR or raw.VR in (None, "UN"):
        return len(vrs_of(name)) == 1 and "SQ" not in vrs_of(name)
    return True


def _read_attribute(dataset: Dataset, tag: BaseTag, url: str, characters: Any) -> dict[str, Any]:
    try:
        raw = dataset.get_item(tag)
    except Exception:
        # Under a VR that is none.
        return {"vr": "UN"}
    content = raw.value if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) else None
    vr = _vr_of(raw, f"{tag:08X}") if isinstance(raw, RawDataElement) else ""
    if vr in ("DS", "IS") and content is not None:
        # pydicom refuses some of them, and rounds others.
        return made_element(vr, *numbers_of(vr, content))
    try:
        return _attribute(dataset[tag], content, url, characters)
    except Exception:
        # What no VR allows, such as a tag of three bytes: its bytes are told.
        return _binary("UN", content or b"")


def _attribute(element: DataElement, content: bytes | None, url: str, characters: Any) -> dict[str, Any]:
    if element.VR == "SQ":
        listed = [_model(item, f"{url}.{number}.", characters) for number, item in enumerate(element.value or [], 1)]
        return {"vr": "SQ", "Value": listed} if listed else {"vr": "SQ"}
    if isinstance(element.value, bytes):
        # Where pydicom can't tell which of several VRs it has, it leaves the bytes.
        vr = element.VR if element.VR in BULK_VRS else usual_vr(f"{element.tag:08X}")
        if len(element.value) > _LARGEST_INLINE:
            return {"vr": vr, "BulkDataURI": url}
        return _binary(vr if vr in BULK_VRS else "UN", element.value)
    return made_element(element.VR, *values_of(element, content, has_character_set=bool(characters)))


def _binary(vr: str, content: bytes) -> dict[str, Any]:
    return {"vr": vr} | ({"InlineBinary": base64.b64encode(content).decode()} if content else {})


def bulk_paths(attributes: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the paths of a model's values that have an address, as `bulk` takes them."""
    for tag, attribute in attributes.items():
        if "BulkDataURI" in attribute:
            yield f"{before}{tag}"
        elif attribute["vr"] == "SQ":
            for number, item in enumerate(attribute.get("Value", []), 1):
                yield from bulk_paths(item, f"{before}{tag}.{number}.")


def bulk(dataset: Dataset, path: str) -> bytes:
    """Return a value by its path, tags with numbers of items between them, `0040A730.1.00480105`; raise RequestError (404)."""
    here: Any = dataset
    try:
        for step in path.split("."):
            here = here[int(step) - 1] if isinstance(here, list) else here[BaseTag(int(step, 16))].value
            here = list(here) if not isinstance(here, (bytes, Dataset, str)) else here
        if isinstance(here, str):
            here = here.encode()
        if isinstance(here, bytes):
            return here
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError):
        pass
    raise RequestError(404, f"The instance has no bulk data {path[:100]!r}.")
