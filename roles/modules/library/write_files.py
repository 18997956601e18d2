#!/usr/bin/python
"""Ansible module: several files with their content, owner and mode, in one task."""

from __future__ import annotations

import difflib
import grp
import os
import pwd
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: write_files
short_description: Have files with their content, owner, group and mode, many in one task
author: DICOMweb site maintainers
description:
  - What the action M(managed_files) has done on the host, once it has rendered them. Roles call that.
options:
  directories:
    description: Directories to have, before the files.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Path., type: path, required: true}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Mode in octal., type: str, default: "0755"}
  files:
    description: Files to have, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Path., type: path, required: true}
      content: {description: The whole content., type: str, required: true}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Mode in octal., type: str, default: "0644"}
      validate: {description: Command that accepts the file; C(%s) is its path., type: str}
      secret: {description: Whether differences are kept out of the output., type: bool, default: false}
"""

EXAMPLES = r"""
- name: Write a file
  write_files:
    files:
      - {path: /etc/motd, content: "This host is DICOMweb's.\n"}
"""

RETURN = r"""
paths:
  description: What was changed.
  type: list
  returned: always
"""


class Host:
    """Writes on the host, or only says what would be written in check mode."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.paths: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def identity(self, wanted: dict[str, Any]) -> tuple[int, int]:
        """Return the owner's and the group's numbers; -1 in check mode for one that a package has yet to bring."""
        numbers = []
        for kind in ("owner", "group"):
            try:
                name = wanted[kind]
                numbers.append(pwd.getpwnam(name).pw_uid if kind == "owner" else grp.getgrnam(name).gr_gid)
            except KeyError:
                if not self.module.check_mode:
                    self.module.fail_json(msg=f"{wanted['path']}: this host has no {kind} {wanted[kind]}", paths=self.paths)
                numbers.append(-1)
        return numbers[0], numbers[1]

    def differs(self, path: Path, wanted: dict[str, Any], identity: tuple[int, int]) -> bool:
        """Return whether owner, group or mode of what is there are other than wanted."""
        status = path.stat()
        return (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (*identity, int(wanted["mode"], 8))

    def directory(self, wanted: dict[str, Any]) -> None:
        """Have one directory."""
        path, identity = Path(wanted["path"]), self.identity(wanted)
        if path.is_dir() and not self.differs(path, wanted, identity):
            return
        self.paths.append(str(path))
        if self.module.check_mode:
            return
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, *identity)
        path.chmod(int(wanted["mode"], 8))

    def file(self, wanted: dict[str, Any]) -> None:
        """Have one file."""
        path, content, identity = Path(wanted["path"]), wanted["content"].encode(), self.identity(wanted)
        before = path.read_bytes() if path.is_file() else None
        if before == content and not path.is_symlink():
            if self.differs(path, wanted, identity):
                self.paths.append(str(path))
                if not self.module.check_mode:
                    os.chown(path, *identity)
                    path.chmod(int(wanted["mode"], 8))
            return
        self.paths.append(str(path))
        if self.module._diff:
            self.diffs.append({"prepared": self.difference(path, before, wanted)})
        if not self.module.check_mode:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, content, wanted, identity)

    def difference(self, path: Path, before: bytes | None, wanted: dict[str, Any]) -> str:
        """Return a unified diff, or only the path for a secret file."""
        if wanted["secret"]:
            return f"{path} (not shown)\n"
        old = (before or b"").decode(errors="replace").splitlines(keepends=True)
        new = wanted["content"].splitlines(keepends=True)
        return "".join(difflib.unified_diff(old, new, f"{path} (before)", f"{path} (after)"))

    def write(self, path: Path, content: bytes, wanted: dict[str, Any], identity: tuple[int, int]) -> None:
        """Write, validate, sync and rename."""
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchown(stream.fileno(), *identity)
                os.fchmod(stream.fileno(), int(wanted["mode"], 8))
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if wanted["validate"]:
                command = [word.replace("%s", name) for word in wanted["validate"].split()]
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                if result.returncode:
                    self.module.fail_json(
                        msg=f"{path} was not installed, {command[0]} refuses it: {(result.stderr or result.stdout).strip()}",
                        paths=self.paths,
                    )
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def main() -> None:
    """Run the module."""
    common = {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**common, "mode": {"type": "str", "default": "0755"}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    **common,
                    "mode": {"type": "str", "default": "0644"},
                    # Kept out of the host's syslog, where modules log what they are called with.
                    "content": {"type": "str", "required": True, "no_log": True},
                    "validate": {"type": "str"},
                    "secret": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    # Parents are everybody's to enter, whatever root's umask is on a hardened host.
    os.umask(0o022)
    host = Host(module)
    for wanted in module.params["directories"]:
        host.directory(wanted)
    for wanted in module.params["files"]:
        host.file(wanted)
    module.exit_json(changed=bool(host.paths), paths=host.paths, diff=host.diffs)


if __name__ == "__main__":
    main()
