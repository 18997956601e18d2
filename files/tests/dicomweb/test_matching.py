"""Which datasets match, where their values are unusual."""

from __future__ import annotations

from typing import Any

import pytest
from dicomweb.dataset import element
from dicomweb.matching import test_of as matches


@pytest.mark.parametrize(
    ("tag", "vr", "key"),
    [
        ("00080020", "DA", "20240101-20241231"),
        ("00100010", "PN", "Doe*"),
        ("00081030", "LO", "CT*"),
        ("00200013", "IS", "5"),
    ],
)
def test_an_empty_value_among_others_matches_nothing_and_hides_none(tag: str, vr: str, key: str) -> None:
    found = {"DA": "20240102", "PN": {"Alphabetic": "Doe^Jane"}, "LO": "CT HEAD", "IS": 5}[vr]
    test = matches({tag: key})
    assert test({tag: element(vr, None, found)})
    assert not test({tag: element(vr, None, None)})


@pytest.mark.parametrize("keys", [{}, {"00080100": ""}, {"00080100": "*", "0040A043": {"00080104": ""}}])
def test_a_sequence_of_which_nothing_is_asked_matches_everything(keys: dict[str, Any]) -> None:
    assert matches({"00400275": keys})({})
    assert not matches({"00400275": keys | {"00080102": "DCM"}})({})


@pytest.mark.parametrize("key", ["İstanbul^Ali", "?stanbul^ali", "istanbul^?li", "=Istanbul*"])
def test_capitals_of_two_characters_are_one(key: str) -> None:
    assert matches({"00100010": key})({"00100010": element("PN", {"Alphabetic": "İstanbul^Ali"})}) is not key.startswith("=")
