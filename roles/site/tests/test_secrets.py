"""What the control node makes for a site, by Ansible itself: each once, for all that it is for, and in check mode not at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).parents[2]
HOSTS = {"db": "10.0.0.1", "store": "10.0.0.2", "door": "fd00::3"}


class Site:
    """Three hosts of an inventory, and a control node with a home of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.secrets = directory / "home/.config/dicomweb-site/clinic"
        (directory / "home").mkdir()
        groups = {"database": "db", "archive": "store", "web": "door"}
        inventory: dict[str, Any] = {
            "hosts": {name: {"ansible_host": address} for name, address in HOSTS.items()},
            "children": {group: {"hosts": {host: {}}} for group, host in groups.items()},
            "vars": {"site_name": "clinic"},
        }
        (directory / "hosts.json").write_text(json.dumps({"all": inventory}))
        # Nothing of it is run: its plugins are found when it is named.
        shared = {"ansible.builtin.import_role": {"name": "modules", "tasks_from": "gather"}, "when": False}
        tasks = [shared, {"ansible.builtin.import_role": {"name": "site", "tasks_from": "secrets"}}]
        facts = {"ansible.builtin.set_fact": {"built": "{{ is_built | default(false) | bool }}", "cacheable": True}}
        plays: list[dict[str, Any]] = [
            {"hosts": "all", "tasks": [facts]},
            {"hosts": "localhost", "connection": "local", "tasks": tasks},
        ]
        (directory / "play.json").write_text(json.dumps([{**play, "gather_facts": False} for play in plays]))

    def play(self, *arguments: str, **settings: Any) -> tuple[int, int, str]:
        """Return the exit code, how much was changed on the control node, and what was said."""
        program = Path(sys.executable).parent / "ansible-playbook"
        settings["ansible_python_interpreter"] = sys.executable
        ended = subprocess.run(
            [str(program), "-i", "hosts.json", "play.json", "-e", json.dumps(settings), *arguments],
            cwd=self.directory,
            env={**os.environ, "HOME": str(self.directory / "home"), "ANSIBLE_ROLES_PATH": str(ROLES), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        changed = re.findall(r"^localhost .*changed=(\d+)", ended.stdout, re.MULTILINE)
        return ended.returncode, int(changed[0]) if changed else 0, " ".join((ended.stdout + ended.stderr).split())

    def kept(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.secrets.glob("*")}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_each_is_made_once_and_a_certificate_for_its_names(site: Site) -> None:
    assert site.play()[0] == 0
    made = site.kept()
    assert set(made) == {"database_password", "worklist_password", "dicomweb_password", "archive_password"} | {
        f"{name}.{kind}" for name in ("database", "archive") for kind in ("crt", "key")
    }
    assert {path.stat().st_mode & 0o077 for path in [site.secrets, *site.secrets.glob("*")]} == {0}
    assert site.play()[:2] == (0, 0)
    assert site.kept() == made
    moved = json.loads((site.directory / "hosts.json").read_text())
    moved["all"]["hosts"]["store"]["site_address"] = "fd00::2"
    (site.directory / "hosts.json").write_text(json.dumps(moved))
    assert site.play()[0] == 0
    assert {name for name, text in site.kept().items() if made[name] != text} == {"archive.crt", "archive.key"}


def test_what_the_inventory_gives_is_taken(site: Site) -> None:
    given = {"site_database_password": "of-the-database", "site_certificates": {"archive": {"certificate": "C", "key": "K"}}}
    assert site.play(**given)[0] == 0
    kept = site.kept()
    assert "database_password" not in kept and (kept["archive.crt"], kept["archive.key"]) == ("C", "K")
    ended, _, told = site.play(site_database_password="short")
    assert ended == 2 and "site_database_password is empty or shorter than 8 characters" in told and "short'" not in told


def test_check_mode_makes_nothing(site: Site) -> None:
    code, _, told = site.play("--check")
    assert code == 0, told
    assert not site.secrets.exists()


def test_check_mode_makes_nothing_where_the_directory_is_given(site: Site) -> None:
    given = site.directory / "given"
    code, changed, told = site.play("--check", site_secrets_directory=str(given))
    assert code == 0, told
    assert changed and not given.exists()


def test_built_hosts_get_no_new_ones_unasked(site: Site) -> None:
    for arguments in ((), ("--check",)):
        ended, _, told = site.play(*arguments, is_built=True)
        assert ended == 2 and f"there is no {site.secrets}" in told and "-e '{\"site_secrets_renew\": true}'" in told
        assert not site.secrets.exists()
    # As a text it says nothing; a directory that is empty, or was brought back by half, has not what they were built with.
    for text in ("true", "false"):
        assert site.play(is_built=True, site_secrets_renew=text)[0] == 2
    site.secrets.mkdir(parents=True)
    assert site.play(is_built=True)[0] == 2
    (site.secrets / "worklist_password").write_text("of-the-worklist\n")
    ended, _, told = site.play(is_built=True)
    assert ended == 2 and f"they are not in {site.secrets}" in told
    assert set(site.kept()) == {"worklist_password"}
    assert site.play(is_built=True, site_secrets_renew=True)[0] == 0
    assert site.play(is_built=True)[:2] == (0, 0)
