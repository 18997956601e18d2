"""What the test's plays keep from run to run, as long as it is the same: modules that are packed, templates that are compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CALLBACK = Path(__file__).parents[2] / "molecule/shared/callbacks/quick_runs.py"
MODULE = """from ansible.module_utils.basic import AnsibleModule

AnsibleModule({{}}).exit_json(msg={says!r})
"""
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles: [speaker]
"""


def test_a_module_is_packed_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    callbacks, role = tmp_path / "molecule/shared/callbacks", tmp_path / "roles/speaker"
    for directory in (callbacks, role / "library", role / "tasks"):
        directory.mkdir(parents=True)
    shutil.copy(CALLBACK, callbacks)
    (role / "tasks/main.yml").write_text("- speak:\n")
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {**os.environ, "ANSIBLE_CALLBACK_PLUGINS": str(callbacks), "ANSIBLE_CALLBACKS_ENABLED": "quick_runs"}
    packed: list[dict[str, int]] = []
    for says in ("the first", "the first", "the second"):
        (role / "library/speak.py").write_text(MODULE.format(says=says))
        command = [sys.executable, "-m", "ansible", "playbook", "-v", "-i", "localhost,", "play.yml"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and says in done.stdout, done.stdout + done.stderr
        kept = (tmp_path / ".cache/packed_modules").glob("*/ansible.legacy.speak-ZIP_DEFLATED-none")
        packed.append({path.parent.name: path.stat().st_mtime_ns for path in kept})
    once, twice, changed = packed
    assert once and once == twice
    assert len(changed) == 2 and changed.items() > once.items()


TEMPLATES = r"""
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    upper: "{{ names | map('upper') | list }}"
    names: [x, y]
  tasks:
    - debug: msg="{{ upper }} {{ 'a1b' | regex_replace('a(.*)b', '<\\1>') }} {{ item }}"
      when: upper | length > 1 and item != 1
      loop: "{{ range(0, 3) | list }}"
    - debug: {msg: "{{ nothing }}"}
      ignore_errors: true
    - debug: {msg: "{{ 1 | no_such_filter }}"}
      ignore_errors: true
    - assert: {that: "1 == 2"}
      ignore_errors: true
    - debug: {msg: "{{ lookup('template', 'square.j2') }}"}
"""


def test_templates_are_compiled_once_and_say_the_same(tmp_path: Path) -> None:
    callbacks = tmp_path / "molecule/shared/callbacks"
    callbacks.mkdir(parents=True)
    shutil.copy(CALLBACK, callbacks)
    (tmp_path / "play.yml").write_text(TEMPLATES)
    options = "#jinja2: variable_start_string:'[[', variable_end_string:']]'"
    (tmp_path / "square.j2").write_text(options + "\n[[ names ]] {{ names }} \\n\n")
    enabled = {"ANSIBLE_CALLBACK_PLUGINS": str(callbacks), "ANSIBLE_CALLBACKS_ENABLED": "quick_runs"}
    told, kept = [], []
    for more in ({}, enabled, enabled):
        environment = {name: value for name, value in os.environ.items() if name not in enabled} | more
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "play.yml"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        told.append(done.stdout + done.stderr)
        kept.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / ".cache/compiled_templates").glob("*/*")})
    plain, first, second = told
    assert "<1>" in plain and "No filter named 'no_such_filter'" in plain and "{{ names }}" in plain, plain
    assert plain == first == second
    assert len(kept[1]) > 5 and kept[1] == kept[2]
