"""Metadata of datasets that are encoded in unusual ways."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from datasets import of_kind
from dicomweb.metadata import bulk, model, opened
from dicomweb.model_text import model_text
from dicomweb.native_xml import write_xml
from dimse.part10 import EXPLICIT, file_head
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("is_deferred", [True, False])
def test_long_sequences_have_their_items_and_long_texts_an_address(tmp_path: Path, syntax: str, is_deferred: bool) -> None:
    dataset = dcmread(of_kind("ct", tmp_path).path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.ReferencedImageSequence = [Dataset() for _ in range(200)]
    for number, item in enumerate(dataset.ReferencedImageSequence):
        item.ReferencedSOPInstanceUID = f"1.2.{number}"
        item.ImageComments = "text " * (1000 if number == 1 else 1)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageComments = "Größe " * 1000
    path = tmp_path / "made.dcm"
    dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    read = opened(path) if is_deferred else dcmread(path)
    made = model(read, "/bulk")
    items = made["00081140"]["Value"]
    assert [item["00081155"]["Value"][0] for item in items] == [f"1.2.{number}" for number in range(200)]
    assert items[1]["00204000"] == {"vr": "LT", "BulkDataURI": "/bulk/00081140.2.00204000"}
    assert made["00204000"] == {"vr": "LT", "BulkDataURI": "/bulk/00204000"}
    assert bulk(read, "00204000").decode().strip() == ("Größe " * 1000).strip()
    assert bulk(read, "00081140.2.00204000").decode().strip() == ("text " * 1000).strip()


UNUSUAL = {
    "not a number": ("FD", struct.pack("<d", math.nan), None),
    "infinite": ("FD", struct.pack("<dd", math.inf, -math.inf), None),
    "single precision": ("FL", struct.pack("<ff", math.nan, 1.5), [None, 1.5]),
    "a DS that isn't finite": ("DS", b"NaN\\1e400\\0x10\\1_0\\1,5 ", [None, None, "0x10", "1_0", "1,5"]),
    "an empty DS among others": ("DS", b"40\\\\80 ", [40, None, 80]),
    "a DS of many digits": ("DS", b"1.23456789012345678", [1.2345678901234567]),
    "an empty IS at the end": ("IS", b"1\\", [1, None]),
    "nothing but empty ones": ("IS", b"\\\\", None),
    "a fraction as an IS": ("IS", b"1.5 ", ["1.5"]),
    "a whole fraction as an IS": ("IS", b"+0005.0 ", [5]),
    "an IS beyond what is exact": ("IS", b"99999999999999999999", ["99999999999999999999"]),
    "letters as an IS": ("IS", b"abc ", ["abc"]),
    "an empty CS among others": ("CS", b"A\\\\B ", ["A", None, "B"]),
    "an empty name among others": ("PN", b"A^B\\\\C^D ", [{"Alphabetic": "A^B"}, None, {"Alphabetic": "C^D"}]),
    "a name of nothing": ("PN", b"==", None),
    "empty groups of a name": ("PN", b"==P ", [{"Phonetic": "P"}]),
    "UTF-8 without a character set": ("LO", "Größe".encode() + b" ", ["Größe"]),
    "Latin-1 without a character set": ("LO", "Größe ".encode("latin-1"), ["Größe"]),
    "a tag": ("AT", b"\x18\0\x63\x10", ["00181063"]),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_values_are_told_as_they_are(name: str, tmp_path: Path) -> None:
    vr, content, expected = UNUSUAL[name]
    made = written_model(private(vr, content), tmp_path)["00091001"]
    assert made == ({"vr": vr} if expected is None else {"vr": vr, "Value": expected})


def test_a_tag_of_three_bytes_is_told_as_its_bytes(tmp_path: Path) -> None:
    assert written_model(private("AT", b"abc"), tmp_path)["00091001"] == {"vr": "UN", "InlineBinary": "YWJj"}


def test_numbers_are_numbers_whoever_has_read_them_before(tmp_path: Path) -> None:
    read = dcmread(of_kind("ct", tmp_path).path)
    expected = model(dcmread(of_kind("ct", tmp_path).path), "")
    for element in read:
        assert element.VR
    made = model(read, "")
    for tag in ("00280030", "00280010", "00200013", "00181150", "00189087"):
        assert made.get(tag) == expected.get(tag)
    assert all(isinstance(value, float) for value in made["00280030"]["Value"])


@pytest.mark.parametrize(
    ("characters", "content"),
    [
        ("ISO_IR 203", b"\xa4uro^\xbd"),
        ("ISO 2022 IR 203\\ISO 2022 IR 87", b"\xa4uro^\xbd"),
        ("\\ISO 2022 IR 203", b"\x1b-b\xa4uro^\x1b-b\xbd "),
    ],
)
def test_latin_9(characters: str, content: bytes, tmp_path: Path) -> None:
    assert written_model(private("PN", content, characters), tmp_path)["00091001"]["Value"] == [{"Alphabetic": "€uro^œ"}]


@pytest.mark.parametrize(
    ("characters", "designation", "encoding"),
    [("\\ISO 2022 IR 58", b"\x1b$)A", "gb2312"), ("\\ISO 2022 IR 149", b"\x1b$)C", "euc_kr")],
)
def test_what_designates_a_character_set_is_no_text(characters: str, designation: bytes, encoding: str, tmp_path: Path) -> None:
    words = "王^小东" if encoding == "gb2312" else "洪^吉洞"
    family, given = (designation + part.encode(encoding) for part in words.split("^"))
    dataset = private("PN", b"A^B=" + family + b"^" + given, characters)
    assert written_model(dataset, tmp_path)["00091001"]["Value"] == [{"Alphabetic": "A^B", "Ideographic": words}]


def test_what_xml_cannot_have_leaves_it_well_formed(tmp_path: Path) -> None:
    made = written_model(private("LO", b"a\x01\0b\x0c"), tmp_path)
    assert made["00091001"]["Value"] == ["a\x01\0b\x0c"]
    assert ElementTree.fromstring(write_xml(made)).find(".//*[@tag='00091001']/*").text == "a��b�"  # type: ignore[union-attr]


def private(vr: str, content: bytes, characters: str = "") -> bytes:
    """Return a dataset of a character set, and of one attribute of any VR, in explicit VR little endian."""
    first = characters.encode() + b" " * (len(characters) % 2)
    head = struct.pack("<HH2sH", 8, 5, b"CS", len(first)) + first if characters else b""
    head += struct.pack("<HH2sH", 9, 0x10, b"LO", 4) + b"TEST"
    return head + struct.pack("<HH2sH", 9, 0x1001, vr.encode(), len(content)) + content


def written_model(dataset: bytes, directory: Path) -> dict[str, Any]:
    """Return a dataset's model as pydicom's reader and the quick one have it, which are the same."""
    path = directory / "made.dcm"
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT) + dataset)
    made = model(opened(path), "")
    assert json.loads(model_text(path, ""), parse_constant=pytest.fail) == made
    return made
