from __future__ import annotations

from typing import Any

import pytest
from routing import routing_problems


def test_good_rules_pass() -> None:
    assert routing_problems([{"match": {"Modality": "CT|MR", "CallingAET": "SCANNER.*"}, "to": ["ai", "storage"]}]) == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"match": {}, "to": ["storage"]}, "matches everything"),
        ({"match": {"Modality": "CT"}, "to": []}, "leads nowhere"),
        ({"match": {"Modality": "("}, "to": ["storage"]}, "no regular expression"),
        ({"match": {"0008,0060": "CT"}, "to": ["storage"]}, "keyword"),
    ],
)
def test_a_bad_rule_is_named_with_its_number(rule: dict[str, Any], said: str) -> None:
    (problem,) = routing_problems([rule])
    assert said in problem and "Rule 1" in problem
