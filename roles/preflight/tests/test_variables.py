from __future__ import annotations

from pathlib import Path
from typing import Any

from variables import argument_specs, unknown_variables

SPECS: dict[str, Any] = {"nginx": {"argument_specs": {"main": {"options": {"nginx_https_port": {}, "nginx_access": {}}}}}}


def test_misspelled_variable_is_named_with_its_neighbour() -> None:
    assert unknown_variables(["nginx_htps_port"], SPECS) == ["nginx_htps_port (did you mean nginx_https_port?)"]


def test_variable_that_resembles_none() -> None:
    assert unknown_variables(["nginx_zzz"], SPECS) == ["nginx_zzz (the role nginx has no such variable)"]


def test_known_ones_and_those_of_others_pass() -> None:
    assert unknown_variables(["nginx_access", "nginxish", "site_name"], SPECS) == []


def test_the_roles_of_the_project_have_specs() -> None:
    specs = argument_specs(["host", "nginx"], str(Path(__file__).parents[2]))
    assert unknown_variables(["host_firewal", "nginx_access"], specs) == ["host_firewal (did you mean host_firewall?)"]
