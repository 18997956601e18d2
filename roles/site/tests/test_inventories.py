"""Each inventory that the project has can be evaluated. No host needs to be there for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
SHIPPED = sorted(path for path in (PROJECT / "inventories").iterdir() if path.is_dir())


def evaluated(directory: Path, inventory: Path) -> str:
    """Evaluate the site's settings for each host, as this machine, and return what was said where that failed."""
    play = {
        "hosts": "{{ groups | hosts_of }}",
        "gather_facts": False,
        "connection": "local",
        "tasks": [{"ansible.builtin.import_role": {"name": "site", "rolespec_validate": False}}],
    }
    first = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": {"name": "modules"}, "when": False}],
    }
    (directory / "play.json").write_text(json.dumps([first, play]))
    vault = {f"vault_{name}": "of-the-tests" for name in ("database_password", "archive_password", "worklist_password")}
    settings = {
        **vault,
        "vault_web_users": {"ada": "of-the-tests"},
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    program = Path(sys.executable).parent / "ansible-playbook"
    ended = subprocess.run(
        [str(program), "-i", str(inventory), "play.json", "-e", json.dumps(settings)],
        cwd=directory,
        env={**os.environ, "HOME": str(directory), "ANSIBLE_ROLES_PATH": str(PROJECT / "roles"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout[-3000:] + ended.stderr[-1000:] if ended.returncode else ""


@pytest.mark.parametrize("inventory", SHIPPED, ids=lambda path: str(path.name))
def test_shipped_inventories(inventory: Path, tmp_path: Path) -> None:
    assert not evaluated(tmp_path, inventory)


def test_a_proxy_alone_that_lacks_its_archives(tmp_path: Path) -> None:
    """Its role says so."""
    inventory = {"hosts": {"one": {"ansible_host": "10.0.0.1"}}, "children": {"proxy": {"hosts": {"one": {}}}}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": inventory | {"vars": {"site_name": "tests"}}}))
    assert not evaluated(tmp_path, tmp_path / "hosts.json")
