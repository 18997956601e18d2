"""DICOM JSON to the Native DICOM Model and back, over pydicom's own files and made-up values."""

from __future__ import annotations

from typing import Any

import pydicom
import pytest
from dicomweb.dataset import checked
from dicomweb.errors import RequestError
from dicomweb.native_xml import read_xml, write_xml
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_charset_files, get_testdata_file

FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "rtplan.dcm",
    "rtdose.dcm",
    "reportsi.dcm",
    "nested_priv_SQ.dcm",
    "chrFren.dcm",
    "chrH31.dcm",
    "chrRuss.dcm",
]


@pytest.mark.parametrize("name", FILES)
def test_real_datasets_come_back_the_same(name: str) -> None:
    path = get_charset_files(name)[0] if name.startswith("chr") else get_testdata_file(name)
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    for tag in [element.tag for element in dataset if element.tag.group == 0x7FE0 or element.VR == "UN"]:
        del dataset[tag]
    # What pydicom leaves in a value although the standard doesn't let it stand there isn't this module's.
    given_json = {tag: attribute for tag, attribute in dataset.to_json_dict().items() if accepted(tag, attribute)}
    before = checked(given_json)
    assert before
    assert checked(read_xml(write_xml(before))) == before


def accepted(tag: str, attribute: dict[str, Any]) -> bool:
    try:
        checked({tag: attribute})
    except RequestError:
        return False
    return True


_WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\^= \ufffe\uffff"), min_size=1, max_size=12
)
_NAMES = st.fixed_dictionaries(
    {"Alphabetic": st.lists(_WORDS, min_size=1, max_size=5).map("^".join)}, optional={"Ideographic": _WORDS, "Phonetic": _WORDS}
)
_ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "00100010": st.builds(lambda value: {"vr": "PN", "Value": [value]}, _NAMES),
        "00104000": st.builds(lambda value: {"vr": "LT", "Value": [value]}, _WORDS),
        "00201208": st.builds(lambda value: {"vr": "IS", "Value": [value]}, st.integers(-(2**31), 2**31 - 1)),
        "00101020": st.builds(
            lambda value: {"vr": "DS", "Value": [value]}, st.floats(allow_nan=False, allow_infinity=False, width=32)
        ),
        "00081090": st.builds(lambda *value: {"vr": "LO", "Value": list(value)}, _WORDS),
    },
)
_DATASETS = st.recursive(
    _ITEMS,
    lambda inner: st.builds(lambda items: {"0040A730": {"vr": "SQ", "Value": items}}, st.lists(inner, min_size=1, max_size=3)),
)


@given(_DATASETS)
def test_any_dataset_comes_back_the_same(dataset: dict[str, Any]) -> None:
    before = checked(dataset)
    assert checked(read_xml(write_xml(before))) == before


def test_keywords_and_parts_of_names_are_written() -> None:
    text = write_xml({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane^^Dr"}]}}).decode()
    assert 'tag="00100010" vr="PN" keyword="PatientName"' in text
    assert "<FamilyName>Doe</FamilyName><GivenName>Jane</GivenName><NamePrefix>Dr</NamePrefix>" in text
