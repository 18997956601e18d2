from __future__ import annotations

import os

from hypothesis import example, given
from hypothesis import strategies as st
from pipeline_monitor.names import component

values = st.text(max_size=400)


def meant(value: str) -> str:
    return value.strip(" \0")


@given(values)
@example("..")
@example("/etc/passwd")
@example("")
@example("患者" * 150)
@example("\N{RIGHT-TO-LEFT OVERRIDE}mcd.exe")
def test_a_name_stays_in_its_directory(value: str) -> None:
    name = component(value)
    assert name and not name.startswith(".") and not name.endswith(".")
    assert "/" not in name and "\\" not in name and name.isprintable()
    assert len(os.fsencode(name)) <= 200


@given(values, values)
@example("a/b", "a%2Fb")
@example("", "%none")
@example("a" * 300, "a" * 301)
@example(".x", "%2Ex")
def test_two_values_have_two_names(one: str, other: str) -> None:
    assert (component(one) == component(other)) == (meant(one) == meant(other))


def test_what_is_plain_stays_as_it_is() -> None:
    for plain in ("1.2.840.10008.1", "PAT-0042", "Müller_Ünal", "患者42", "अस्पताल 7"):
        assert component(plain) == plain


def test_what_is_not_plain_is_told() -> None:
    assert component("../a") == "%2E.%2Fa"
    assert component("A^B\\C") == "A%5EB%5CC"
    assert component("") == component("  ") == "%none"
