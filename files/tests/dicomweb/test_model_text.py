"""The model of a file as text is what pydicom makes of the file, whatever was read before."""

from __future__ import annotations

import json
import re
import struct
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
