"""What every role must have, so that its variables are told and checked in one way."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.parent.parent for path in Path(__file__).parent.parent.glob("*/meta/main.yml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def default_files(role: Path) -> list[Path]:
    return sorted([*role.glob("defaults/main.yml"), *role.glob("defaults/main/*.yml")])


def defaults(role: Path) -> set[str]:
    return {name for path in default_files(role) for name in read(path)}


def specs(role: Path) -> dict[str, Any]:
    return dict(read(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {}))


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_defaults_and_specs_name_the_same_variables(role: Path) -> None:
    if role.name == "modules":
        pytest.skip("what it takes comes from the roles that depend on it, and would be validated in every play")
    required = {name for name, option in specs(role).items() if option.get("required")}
    own = {name for name in defaults(role) if role.name != "site" or name.startswith("site_")}
    assert own | required == set(specs(role))


def test_variables_bear_the_roles_name(role: Path) -> None:
    assert role.name == "site" or all(name.startswith(f"{role.name}_") for name in defaults(role))
    assert all(name.startswith("__") for path in (role / "vars").rglob("*.yml") for name in read(path))


def test_the_site_sets_what_roles_have() -> None:
    """The role `site` has the defaults of others that follow from the inventory's groups."""
    roles = {path.name: specs(path) for path in ROLES if path.name != "modules"}
    (site,) = (path for path in ROLES if path.name == "site")
    for name in defaults(site):
        owner = max((role for role in roles if name.startswith(f"{role}_")), key=len, default="")
        assert owner, f"{name} is no role's"
        assert name in roles[owner], f"the role {owner} has no {name}"


def test_every_default_has_its_comment(role: Path) -> None:
    """A blank line parts the groups of variables; each group begins with a comment."""
    for path in default_files(role):
        groups = path.read_text().removeprefix("---\n").strip().split("\n\n")
        if role.name == "site":
            # What it sets of others is told where they have it.
            groups = [group for group in groups if group.startswith("site_")]
        assert all(group.startswith("#") for group in groups), path


def test_readme_is_a_page_and_names_the_role(role: Path) -> None:
    lines = (role / "README.md").read_text().splitlines()
    assert lines[0] == f"# {role.name}"
    assert 5 < len(lines) <= 60


def test_readme_has_galaxys_order_and_a_play_that_uses_the_role(role: Path) -> None:
    """`molecule/upstream/tests/test_used_alone.py` runs those of the roles that build something."""
    text = (role / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Requirements", "Role variables", "Dependencies", "Example playbook"]
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert text.endswith(f"## Example playbook\n\n```yaml\n{example}```\n")
    plays = yaml.safe_load(example)
    assert all({"name", "hosts"} <= play.keys() for play in plays)
    used = [each if isinstance(each, dict) else {"role": each} for play in plays for each in play.get("roles", [])]
    assert role.name in [each["role"] for each in used]
    assert {
        name for each in used if each["role"] == role.name for name in each.get("vars", {}) if name.startswith(role.name)
    } <= defaults(role)


def test_nothing_wins_over_an_inventory() -> None:
    """What stands in group_vars beside a playbook would; the project's own settings are defaults of roles."""
    project = ROLES[0].parent.parent
    assert not list((project / "playbooks").glob("*_vars"))
    assert not any(read(path) for path in project.glob("*_vars/**/*.yml"))
    assert "precedence" not in (project / "ansible.cfg").read_text()


def test_no_programs_in_yaml() -> None:
    project = ROLES[0].parent.parent
    files = [path for path in project.rglob("*.yml") if not any(part.startswith(".") for part in path.relative_to(project).parts)]
    assert len(files) > 100
    assert not [path for path in files if "{%-" in path.read_text()]


def test_no_list_has_the_order_of_a_set() -> None:
    """Ansible's filters for sets forget the order: what they make would be another at each run, and change what is written."""
    project = Path(__file__).parents[2]
    filters = re.compile(r"\|\s*(difference|intersect|symmetric_difference|union)\b")
    places = [project / name for name in ("inventories", "molecule", "playbooks", "roles")]
    files = [project / "site.yml"] + [path for place in places for path in place.rglob("*") if path.suffix in (".yml", ".j2")]
    assert len(files) > 50
    assert not [path for path in files if filters.search(path.read_text())]


def test_every_role_knows_every_supported_release() -> None:
    """Names and versions that differ from release to release stand in `vars/main/platforms.yml`, with their sources."""
    roles = ROLES[0].parent
    supported = read(roles / "preflight/vars/main.yml")["__preflight_supported"]
    files = sorted(roles.glob("*/vars/main/platforms.yml"))
    named = {path.parents[2].name for path in files}
    assert named == {"bundle", "haproxy", "host", "nginx", "orthanc", "postgresql", "python_service", "static_dicomweb"}
    for path in files:
        (name, platforms), *others = read(path).items()
        assert not others
        assert name == f"__{path.parents[2].name}_platforms"
        assert list(platforms) == supported, f"{path} lacks a release, or has one that preflight doesn't let in"
        assert "Sources:" in path.read_text()


def test_tasks_ask_for_no_release() -> None:
    """What differs is looked up among a role's platforms; tasks and templates ask no more than which family a host is of."""
    roles = ROLES[0].parent
    asks = re.compile(r"ansible_facts\['(distribution|distribution_major_version|release)'\] *(==|in|is|!=) *['\[]")
    files = [path for kind in ("tasks", "templates") for path in roles.glob(f"*/{kind}/*")]
    assert len(files) > 30
    assert not [path for path in files if asks.search(path.read_text())]


def test_every_scenario_is_run() -> None:
    """By `make test`, where it can be run without Ubuntu's archive, and by the public CI."""
    project = ROLES[0].parent.parent
    there = {path.parent.name for path in project.glob("molecule/*/molecule.yml")}
    (made,) = re.findall(r"^scenarios := (.*)$", (project / "Makefile").read_text(), re.MULTILINE)
    assert set(made.split()) == there - {"ubuntu"}
    assert set(read(project / ".github/workflows/test.yml")["jobs"]["molecule"]["strategy"]["matrix"]["scenario"]) == there


def test_scenarios_can_run_side_by_side() -> None:
    """Each has a name, a network and hosts that no other has, nor a lab: they are directories and interfaces of one machine."""
    project = ROLES[0].parent.parent
    names, networks = {"lab", "pipeline"}, {"10.77.0"}
    for path in sorted(project.glob("molecule/*/inventory/hosts.yml")):
        inventory = path.parents[1].name
        hosts = read(path)["all"]["hosts"]
        (network,) = {settings["ansible_host"].rpartition(".")[0] for settings in hosts.values()}
        assert network not in networks, f"{inventory} is in the network of another"
        assert not names & hosts.keys(), f"{inventory} has a host of another's name"
        names |= hosts.keys()
        networks.add(network)
        site = f"site_name: molecule-{inventory}\n"
        assert any(site in each.read_text() for each in path.parent.rglob("*.yml")), f"{inventory} has no site_name of its own"


def test_modules_are_documented_as_ansible_has_it() -> None:
    """`ansible-doc` shows each, with its author and an example."""
    roles = ROLES[0].parent
    directories = [path for kind in ("action_plugins", "library") for path in sorted(roles.glob(f"*/{kind}"))]
    names = sorted({path.stem for directory in directories for path in directory.glob("*.py")})
    assert len(names) > 10
    paths = [argument for directory in directories for argument in ("--module-path", str(directory))]
    shown = subprocess.run(["ansible-doc", "--json", *paths, *names], capture_output=True, text=True, check=True).stdout
    for name, told in json.loads(shown).items():
        assert told["doc"]["author"], name
        assert f"{name}:" in told["examples"], name
    assert sorted(json.loads(shown)) == names
