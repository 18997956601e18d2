"""What the test's plays keep from run to run: modules that are packed, as long as they are the same."""

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
