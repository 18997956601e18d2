"""The Native DICOM Model (PS3.19 A.1), the XML of DICOMweb, from and to the DICOM JSON model."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException
from pydicom.datadict import keyword_for_tag

from dicomweb.attributes import DECIMAL_VRS, INTEGER_VRS, NAME_GROUPS
from dicomweb.dataset import Dataset
from dicomweb.errors import RequestError

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# What no XML has, however it is written (XML 1.0, 2.2).
_NO_CHARACTERS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER_VRS = INTEGER_VRS | DECIMAL_VRS


def read_xml(body: bytes) -> Dataset:
    """Parse a NativeDicomModel; raise RequestError (400) where it is none. Values are checked by `dataset.checked`."""
    try:
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise RequestError(400, f"The body is not XML: {str(error)[:200]}.") from None
    if _name(root) != "NativeDicomModel":
        raise RequestError(400, f"The body's root is {_name(root)!r}: it must be NativeDicomModel (PS3.19 A.1).")
    return _read_attributes(root, 0)


def _name(node: ElementTree.Element) -> str:
    return str(node.tag).removeprefix(f"{{{NAMESPACE}}}")


def _read_attributes(parent: ElementTree.Element, depth: int) -> Dataset:
    if depth > 64:
        raise RequestError(400, "The body has sequences nested too deeply.")
    made: Dataset = {}
    for node in parent:
        if _name(node) != "DicomAttribute":
            raise RequestError(400, f"{_name(node)!r} stands where a DicomAttribute belongs.")
        tag = node.get("tag", "")
        if tag in made:
            raise RequestError(400, f"{tag} is given twice.")
        made[tag] = _read_attribute(tag, node, depth)
    return made


def _read_attribute(tag: str, node: ElementTree.Element, depth: int) -> dict[str, Any]:
    vr = node.get("vr", "")
    made: dict[str, Any] = {"vr": vr}
    listed: list[Any] = []
    for child in node:
        kind = _name(child)
        if kind == "Value":
            listed.append(_number(child.text or "") if vr in _NUMBER_VRS else child.text or None)
        elif kind == "PersonName":
            listed.append({_name(group): _read_name(group) for group in child})
        elif kind == "Item":
            listed.append(_read_attributes(child, depth + 1))
        elif kind == "InlineBinary":
            made["InlineBinary"] = "".join((child.text or "").split())
        elif kind == "BulkData":
            made["BulkDataURI"] = child.get("uri", "")
        else:
            raise RequestError(400, f"{tag} has the unknown member {kind!r}.")
    if listed:
        made["Value"] = listed
    return made


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text or None


def _read_name(group: ElementTree.Element) -> str:
    parts = {_name(part): part.text or "" for part in group}
    unknown = set(parts) - set(_NAME_PARTS)
    if unknown:
        raise RequestError(400, f"A person's name has the unknown part {min(unknown)!r}.")
    return "^".join(parts.get(part, "") for part in _NAME_PARTS).rstrip("^")


def write_xml(dataset: Dataset) -> bytes:
    """Return a dataset as a NativeDicomModel in UTF-8. A character that XML can't have becomes U+FFFD, which says so."""
    root = ElementTree.Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _write_attributes(root, dataset)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _write_attributes(parent: ElementTree.Element, dataset: Dataset) -> None:
    for tag, attribute in dataset.items():
        keyword = keyword_for_tag(int(tag, 16))
        node = ElementTree.SubElement(parent, "DicomAttribute", {"tag": tag, "vr": attribute["vr"]})
        if keyword:
            node.set("keyword", keyword)
        if "InlineBinary" in attribute:
            ElementTree.SubElement(node, "InlineBinary").text = attribute["InlineBinary"]
        for number, value in enumerate(attribute.get("Value", []), start=1):
            _write_value(node, attribute["vr"], str(number), value)


def _write_value(node: ElementTree.Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _write_attributes(ElementTree.SubElement(node, "Item", {"number": number}), value or {})
    elif vr == "PN":
        name = ElementTree.SubElement(node, "PersonName", {"number": number})
        for group in (group for group in NAME_GROUPS if group in (value or {})):
            parts = ElementTree.SubElement(name, group)
            for part, text in zip(_NAME_PARTS, value[group].split("^"), strict=False):
                if text:
                    ElementTree.SubElement(parts, part).text = _possible(text)
    else:
        ElementTree.SubElement(node, "Value", {"number": number}).text = "" if value is None else _possible(str(value))


def _possible(text: str) -> str:
    return _NO_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)
