from __future__ import annotations

from typing import Any

from pipeline_forwarder.routing import Routes
from pipeline_forwarder.settings import Rule

RULES = [
    Rule(match={"Modality": "CT|MR"}, to=("storage", "ai")),
    Rule(match={"CallingAET": "RESEARCH.*", "StudyDescription": ".*TRIAL.*"}, to=("research", "storage")),
]


def servers(**attributes: str) -> tuple[str, ...]:
    return Routes(RULES, ["archive"]).of(lambda: attributes)


def test_an_instance_goes_wherever_a_rule_matches() -> None:
    assert servers(Modality="CT") == ("storage", "ai")
    assert servers(Modality="CT", CallingAET="RESEARCH1", StudyDescription="A TRIAL") == ("storage", "ai", "research")
    assert servers(Modality="US", CallingAET="RESEARCH1", StudyDescription="A TRIAL") == ("research", "storage")


def test_what_no_rule_matches_goes_the_usual_way() -> None:
    assert servers(Modality="US") == servers(Modality="XCT") == servers() == servers(CallingAET="RESEARCH1") == ("archive",)


def test_one_of_several_values_is_enough() -> None:
    assert Routes([Rule(match={"ImageType": "DERIVED"}, to=("a",))], ["b"]).of(lambda: {"ImageType": "ORIGINAL\\DERIVED"}) == ("a",)


def test_without_rules_nothing_is_asked() -> None:
    def ask() -> dict[str, Any]:
        raise AssertionError("asked")

    assert Routes([], ["storage"]).of(ask) == ("storage",)
