"""The actions that roles declare their files and their checks with, in plays of Ansible's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULES = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A role that includes another, which writes what the first one gives it."""
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles/modules").symlink_to(MODULES)
    for role in ("giver", "writer"):
        for directory in ("tasks", "templates", "files"):
            (tmp_path / "roles" / role / directory).mkdir(parents=True)
    return tmp_path


def play(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    roles = [{"role": "modules"}, {"role": "giver"}]
    (project / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "roles": roles}]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "play.yml", "-e", f"place={project}"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)


def tasks(project: Path, role: str, *given: dict[str, Any]) -> None:
    (project / "roles" / role / "tasks/main.yml").write_text(json.dumps(list(given)))


def own(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry as one of whoever runs this, who needn't be root."""
    return {**entry, "owner": "{{ lookup('pipe', 'id -un') }}", "group": "{{ lookup('pipe', 'id -gn') }}"}


def test_files_are_rendered_with_their_loops_and_conditions(project: Path) -> None:
    (project / "roles/giver/templates/one.j2").write_text("# {{ ansible_managed }}\n{{ item.name }}\\n\n{% include 'inner.j2' %}\n")
    (project / "roles/giver/templates/inner.j2").write_text("inner {{ item.name }}")
    (project / "roles/giver/templates/data.json.j2").write_text("{{ {'b': [1], 'a': true} | to_nice_json(sort_keys=true) }}\n")
    (project / "roles/giver/files/plain").write_text("{{ not a template }}\n\n")
    files = [
        {"src": "one.j2", "dest": "{{ place }}/out/{{ item.name }}", "loop": "{{ given }}", "when": "item.wanted"},
        {"src": "data.json.j2", "dest": "{{ place }}/out/data.json"},
        {"src": "plain", "dest": "{{ place }}/out/plain", "mode": "0600"},
        {"src": "{{ absent.path }}", "dest": "{{ place }}/out/{{ absent.name }}", "when": "absent is defined"},
        {"content": "{{ place | basename }}", "dest": "{{ place }}/out/content"},
    ]
    directories = [{"path": "{{ place }}/{{ item }}", "mode": "0700", "loop": ["made", "too"]}]
    given = [{"name": "x", "wanted": True}, {"name": "y", "wanted": False}, {"name": "z", "wanted": True}]
    declared = {"directories": [own(each) for each in directories], "files": [own(each) for each in files]}
    tasks(project, "giver", {"managed_files": declared, "vars": {"given": given}})
    done = play(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (project / "out").iterdir()) == ["content", "data.json", "plain", "x", "z"]
    assert (project / "out/x").read_text() == "# Ansible managed\nx\\n\ninner x\n"
    assert json.loads((project / "out/data.json").read_text()) == {"a": True, "b": [1]}
    assert (project / "out/data.json").read_text().endswith("}\n")
    assert (project / "out/plain").read_text() == "{{ not a template }}\n"
    assert (project / "out/plain").stat().st_mode & 0o777 == 0o600 and (project / "too").stat().st_mode & 0o777 == 0o700
    again = play(project)
    assert "changed=0" in again.stdout, again.stdout
    assert play(project, "-e", "ansible_managed=Kept").returncode == 0
    assert (project / "out/x").read_text().startswith("# Kept\n")


def test_a_role_writes_what_the_one_that_includes_it_has(project: Path) -> None:
    (project / "roles/giver/templates/theirs.j2").write_text("{{ __secret }}\n")
    (project / "roles/giver/vars").mkdir()
    (project / "roles/giver/vars/main.yml").write_text("__secret: of the giver\n")
    file = own({"src": "{{ item.src }}", "dest": "{{ place }}/{{ item.name }}", "loop": "{{ writer_files }}"})
    tasks(project, "writer", {"managed_files": {"files": [file]}})
    include = {"name": "writer"}
    given = [{"src": "theirs.j2", "name": "theirs"}]
    tasks(project, "giver", {"ansible.builtin.include_role": include, "vars": {"writer_files": given}})
    done = play(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "theirs").read_text() == "of the giver\n"


def test_check_mode_shows_and_writes_nothing(project: Path) -> None:
    (project / "roles/giver/templates/one.j2").write_text("the new line\nand another\n")
    tasks(project, "giver", {"managed_files": {"files": [own({"src": "one.j2", "dest": "{{ place }}/one"})]}})
    done = play(project, "--check", "--diff")
    assert "changed=1" in done.stdout and "+the new line" in done.stdout, done.stdout + done.stderr
    assert not (project / "one").exists()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"source": "one.j2", "dest": "/x"}, "source is nothing that files have"),
        ({"dest": "/x"}, "either src or content"),
        ({"src": "nowhere.j2", "dest": "/x"}, "nowhere.j2"),
        ({"content": "", "dest": "/{{ item }}", "loop": "{{ 'a text' }}"}, "must be a list"),
    ],
)
def test_what_is_declared_wrongly_is_named(project: Path, entry: dict[str, Any], words: str) -> None:
    tasks(project, "giver", {"managed_files": {"files": [entry]}})
    done = play(project)
    assert done.returncode != 0 and words in done.stdout + done.stderr


def test_all_that_is_refused_is_said_at_once(project: Path) -> None:
    port = "lookup('ansible.builtin.vars', item)"
    settings = [
        {
            "when": f"not 1 <= {port} | int <= 65535",
            "because": f"{{{{ item }}}} is {{{{ {port} }}}}.",
            "loop": ["a_port", "b_port"],
        },
        {"when": "title is not match('^(?! +$)[]^-~ -[]{1,16}$')", "because": "{{ title }} is no AE title."},
        {"when": ["fine is defined", "fine"], "because": "{{ never.rendered }}"},
    ]
    variables = {"a_port": 0, "b_port": 8042, "title": r"BACK\\SLASH"}
    tasks(project, "giver", {"refuse": {"settings": settings}, "vars": variables})
    done = play(project)
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "a_port is 0." in told and "is no AE title." in told and "b_port" not in told, told
    tasks(project, "giver", {"refuse": {"settings": settings}, "vars": {**variables, "a_port": "104", "title": "CT[1]^~ Z"}})
    done = play(project)
    assert done.returncode == 0, done.stdout + done.stderr
