"""A role's template as Ansible renders it, for tests that run the program whose configuration it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROLES = Path(__file__).parents[2] / "roles"


def rendered(role: str, template: str, directory: Path, settings: dict[str, Any]) -> Path:
    """Return the file in an empty directory that a template of a role became with its defaults and these settings."""
    source, target = ROLES / role, directory / template.removesuffix(".j2")
    variables = [{"ansible.builtin.include_vars": {"file": str(source / "defaults/main.yml")}}]
    variables += [{"ansible.builtin.include_vars": {"file": str(path)}} for path in sorted((source / "vars/main").glob("*.yml"))]
    written = {"src": str(source / "templates" / template), "dest": str(target), "mode": "0600"}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [*variables, {"ansible.builtin.template": written}]}]
    (directory / "play.yml").write_text(json.dumps(play))
    (directory / "settings.json").write_text(json.dumps({"ansible_python_interpreter": sys.executable, **settings}))
    # Filters are found beside the play.
    (directory / "filter_plugins").symlink_to(source / "filter_plugins")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,", "--connection=local"]
    command += [f"--extra-vars=@{directory}/settings.json", str(directory / "play.yml")]
    # And those that roles share.
    environment = {**os.environ, "ANSIBLE_FILTER_PLUGINS": str(ROLES / "modules/filter_plugins")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return target
