from __future__ import annotations

from pathlib import Path
from typing import Any

from variables import argument_specs, misspelt_variables, mistyped_variables, roles_with_variables, unknown_variables

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


def test_a_setting_of_the_site_is_one_that_it_has() -> None:
    specs = argument_specs(["site"], str(Path(__file__).parents[2]))
    assert unknown_variables(["site_dicom_network", "site_dicom_networks"], specs) == [
        "site_dicom_network (did you mean site_dicom_networks?)"
    ]
    # Others have variables that begin so.
    assert unknown_variables(["site_zzz", "site_code", "host_name"], specs) == []


def test_one_that_is_a_letter_or_two_beside_is_named_whatever_its_beginning() -> None:
    roles = str(Path(__file__).parents[2])
    specs = argument_specs(roles_with_variables(roles), roles)
    given = ["bundl_file", "sit_dicom_networks", "ngix_https_port", "python_servce_wheelhouse", "bundle_file", "bundle_fil"]
    assert [line.split(" (did you mean ")[1] for line in misspelt_variables(given, specs)] == [
        "bundle_file?)",
        "site_dicom_networks?)",
        "nginx_https_port?)",
        "python_service_wheelhouse?)",
        # Of a role that no host is given by that name.
        "bundle_file?)",
    ]
    theirs = ["vault_archive_password", "clinic_settings", "orthanc2_settings", "scenario_hosts", "proxy_port", "database_port"]
    assert misspelt_variables(theirs, specs) == []


TYPES = {
    "r_flag": {"type": "bool"},
    "r_names": {"type": "list"},
    "r_map": {"type": "dict"},
    "r_http": {"type": "str", "choices": ["on", "off"]},
    "r_port": {"type": "int"},
}


def test_values_that_yaml_reads_otherwise_are_named() -> None:
    given = {"r_flag": "false", "r_names": "10.0.0.0/8", "r_map": "x", "r_http": True, "r_port": "80"}
    lines = mistyped_variables(given, {"r": {"argument_specs": {"main": {"options": TYPES}}}})
    assert [line.split(" ")[0] for line in lines] == ["r_flag", "r_names", "r_map", "r_http"]
    assert "write a list, [10.0.0.0/8]" in lines[1] and "in quotes, one of on, off" in lines[3]


def test_what_may_be_a_secret_is_not_said() -> None:
    types = {"r_users": {"type": "list", "elements": "dict"}, "r_database": {"type": "dict"}}
    given = {"r_users": "ada:hidden", "r_database": "postgresql://ada:hidden@db/r"}
    lines = mistyped_variables(given, {"r": {"argument_specs": {"main": {"options": types}}}})
    assert len(lines) == 2 and "hidden" not in " ".join(lines)


def test_values_of_their_types_pass() -> None:
    given = {"r_flag": True, "r_names": [], "r_map": {}, "r_http": "on", "r_port": 80, "other": "x"}
    assert mistyped_variables(given, {"r": {"argument_specs": {"main": {"options": TYPES}}}}) == []
