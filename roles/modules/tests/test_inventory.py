from __future__ import annotations

import pytest
from inventory import hosts_of, inventory_problems

SITE = {"database": ["a"], "archive": ["a"], "web": ["b"]}
EMPTY: dict[str, list[str]] = {"database": [], "archive": [], "web": []}


@pytest.mark.parametrize(
    "groups",
    [
        {**SITE, "all": ["a", "b"], "ungrouped": [], "monitoring": ["m"], "hospitals": ["a"]},
        {**SITE, "gateway": ["b"]},
        {**EMPTY, "proxy": ["p"]},
        {**EMPTY, "proxy": ["p"], "servers": ["s"], "static": []},
    ],
)
def test_a_site_can_be_built(groups: dict[str, list[str]]) -> None:
    assert inventory_problems(groups) == []


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            {**SITE, "archive": [], "archives": ["a"]},
            ["archives is none of a site's: did you mean archive", "group archive has no host"],
        ),
        ({"database": ["a"], "archive": ["a"]}, ["lacks the group web"]),
        ({**EMPTY, "static": []}, ["no host in any group"]),
        ({**EMPTY, "gateway": ["g"]}, ["The group database has no host, and gateway has"]),
        ({}, ["lacks the group database", "no host in any group"]),
    ],
)
def test_what_is_missing_is_named(groups: dict[str, list[str]], words: list[str]) -> None:
    told = " ".join(inventory_problems(groups))
    assert [word for word in words if word not in told] == []


def test_hosts_of_groups_that_needn_t_be_there() -> None:
    groups = {"database": ["a"], "archive": ["a", "b"], "web": ["b"], "all": ["a", "b", "c"]}
    assert hosts_of(groups) == ["a", "b"]
    assert hosts_of(groups, "archive", but="web") == ["a"]
    assert hosts_of(groups, "gateway", "monitor") == ["localhost", "!localhost"]
