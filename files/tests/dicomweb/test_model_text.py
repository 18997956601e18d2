"""The model of a file as text is what pydicom makes of the file, whatever was read before."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc
from pathlib import Path

import pytest
from datasets import PYDICOM_FILES, ct_study
from dicomweb.dataset import write_json
from dicomweb.errors import RequestError
from dicomweb.metadata import model, opened
from dicomweb.model_text import model_text
from dimse.part10 import EXPLICIT, file_head
from hypothesis import given
from hypothesis import strategies as st

URL = "https://site.example/dicom-web/studies/1/bulkdata"


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_it_is_what_pydicom_makes_of_it(path: Path) -> None:
    for _ in range(2):
        try:
            expected = write_json(model(opened(path), URL))
        except RequestError:
            with pytest.raises(RequestError):
                model_text(path, URL)
        else:
            assert json.loads(model_text(path, URL)) == json.loads(expected)
            assert model_text(path, URL) == expected


def test_each_instance_of_a_study_has_its_own(tmp_path: Path) -> None:
    for instance in ct_study(5, tmp_path, 16, PatientName="Wang^XiaoDong=王^小东", SpecificCharacterSet="ISO_IR 192"):
        assert model_text(instance.path, URL) == write_json(model(opened(instance.path), URL))


@pytest.mark.parametrize("characters", [["ISO_IR 100", "ISO_IR 192"], ["ISO_IR 100", "ISO_IR 101"], ["", "ISO_IR 100"]])
def test_the_same_bytes_are_read_by_what_stands_before_them(tmp_path: Path, characters: list[str]) -> None:
    """And what has been read of many files before is read at once only where all of that is the same."""
    [instance] = ct_study(1, tmp_path, 16)
    dataset = instance.dataset
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword in ("InstitutionName", "StudyDescription", "PatientName", "PatientComments", "OperatorsName"):
        setattr(dataset, keyword, "Ä Ž Ø Ğ ğ ç")
    block = dataset.private_block(0x0009, "GEMS_IDEN_01", create=True)
    for number, value in enumerate((b"\1\0", b"1.5 ", b"CT01")):
        block.add_new(number, "UN", value)
    dataset.save_as(instance.path)
    content = instance.path.read_bytes()
    creators = [b"GEMS_IDEN_01", b"SIEMENS MED "]
    for _ in range(6):
        for character in characters:
            for creator in creators:
                written = content.replace(b"ISO_IR 100", character.ljust(10).encode()).replace(creators[0], creator)
                instance.path.write_bytes(written)
                assert model_text(instance.path, URL) == write_json(model(opened(instance.path), URL))


VALUES = {
    "DA": ["20260101", "20260101 ", "2026.01.01", "20260101-", "99999999", ""],
    "DS": ["1", "1.0\\2 \\-3.5", " +1. ", "1e3", "-0", "0.1\\", ".5", "1,5", "NaN", "123456789.123456789", "1 2", "\\"],
    "IS": ["5", " -05 ", "+1", "1.0", "1\\2", "2147483648", "a", " ", "999999999"],
    "TM": ["1010", "101010", "101010.1 ", "10:10", "10", "101010.123456", "256199"],
    "UI": ["1.2.3", "1.2.3\0", "1.2\\1.3", "1..2", "1.2 ", "..", "01.02", "1" * 70],
}
TAGS = {"DA": 0x00080020, "DS": 0x00201041, "IS": 0x00200013, "TM": 0x00080030, "UI": 0x00080018}


@pytest.mark.parametrize(("vr", "value"), [(vr, value) for vr, values in VALUES.items() for value in values])
def test_a_value_is_what_pydicom_makes_of_it(tmp_path: Path, vr: str, value: str) -> None:
    content = value.encode() + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    element = struct.pack("<HH2sH", TAGS[vr] >> 16, TAGS[vr] & 0xFFFF, vr.encode(), len(content)) + content
    path = tmp_path / "one.dcm"
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", EXPLICIT) + element)
    assert model_text(path, URL) == write_json(model(opened(path), URL))


@pytest.mark.parametrize(("vr", "value"), [("UI", b"1.2\0"), ("DA", b"20260101"), ("TM", b"1010"), ("LO", b"ISO_IR 100")])
def test_a_character_set_is_one_under_any_vr(tmp_path: Path, vr: str, value: bytes) -> None:
    path = tmp_path / "one.dcm"
    element = struct.pack("<HH2sH", 8, 5, vr.encode(), len(value)) + value
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", EXPLICIT) + element)
    assert model_text(path, URL) == write_json(model(opened(path), URL))


def test_many_private_creators_cost_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "many.dcm"
    content = file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", EXPLICIT)
    for number in range(4000):
        group, element = 0x0009 + number // 200 * 2, 0x10 + number % 200
        content += struct.pack("<HH2sH", group, element, b"LO", 6) + b"A%05d" % number
    path.write_bytes(content)
    tracemalloc.start()
    text = model_text(path, URL)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text == write_json(model(opened(path), URL))
    assert most < 40 << 20


def test_files_of_several_series_in_turn_are_read_as_each_is(tmp_path: Path) -> None:
    paths = [path for path in PYDICOM_FILES if path.name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "examples_overlay.dcm")]
    expected = {path: write_json(model(opened(path), URL)) for path in paths}
    for _ in range(4):
        for path in (*paths, *paths[:1], *paths):
            assert model_text(path, URL) == expected[path]


CT = next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm").read_bytes()[:4000]


@given(st.lists(st.tuples(st.integers(132, len(CT) - 1), st.integers(0, 255)), max_size=4), st.integers(132, len(CT)))
def test_no_file_is_read_otherwise_than_by_pydicom(
    tmp_path_factory: pytest.TempPathFactory, bytes_: list[tuple[int, int]], end: int
) -> None:
    content = bytearray(CT)
    for at, byte in bytes_:
        content[at] = byte
    path = tmp_path_factory.getbasetemp() / "changed.dcm"
    path.write_bytes(content[:end])
    try:
        expected = write_json(model(opened(path), URL))
    except RequestError:
        return
    assert model_text(path, URL) == expected


def test_what_goes_wrong_is_said_as_pydicom_says_it(tmp_path: Path) -> None:
    """A sequence in a sequence, too often for Python; one that is broken; and a file that is gone."""
    inner = b""
    for _ in range(1000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item)) + item
    broken = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 12) + b"\xfe\xff\x00\xe0\x04\0\0\0\x08\0\x05\0"
    for number, content in enumerate((inner, broken)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", EXPLICIT) + content)
        try:
            expected = write_json(model(opened(path), URL))
        except RequestError as error:
            with pytest.raises(RequestError, match=re.escape(error.message[:30])):
                model_text(path, URL)
        else:
            # How deep Python gets depends on where it begins.
            assert model_text(path, URL)[:1000] == expected[:1000]
            assert json.loads(model_text(path, URL))
    with pytest.raises(RequestError):
        model_text(tmp_path / "gone.dcm", URL)
