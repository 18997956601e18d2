#!/usr/bin/python
"""Ansible module: a file of users and their passwords, as servers with Basic authentication read it."""

from __future__ import annotations

import grp
import hmac
import os
import secrets
import string
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: password_file
short_description: Have a file of users with the hashes of their passwords
description:
  - Each password is kept as SHA-512 (crypt) with a salt of its own, made at random. The hash of a password that is the same stays.
  - The file is root's, readable by a group, and written whole or not at all. OpenSSL on the host makes the hashes.
options:
  path: {description: Path of the file., type: path, required: true}
  group: {description: Group that reads it., type: str, required: true}
  users: {description: Passwords by the users' names., type: dict, required: true}
author:
  - DICOMweb site maintainers
"""

EXAMPLES = r"""
- name: Write the users
  password_file:
    path: /etc/nginx/users
    group: www-data
    users: {radiology: "{{ vault_radiology_password }}"}
"""

_SALT = string.ascii_letters + string.digits


def hashed(password: str, salt: str) -> str:
    """Return the hash of a password, which is kept out of the process list."""
    command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    done = subprocess.run(command, input=password + "\n", stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def kept(line: str, name: str, password: str) -> bool:
    """Return whether a line of the file is the user's with this password."""
    user, _, known = line.partition(":")
    fields = known.split("$")
    return user == name and len(fields) == 4 and fields[1] == "6" and hmac.compare_digest(hashed(password, fields[2]), known)


def content(before: str, users: dict[str, str]) -> str:
    """Return the file for these users, with the lines of the one before whose passwords are the same."""
    lines = []
    for name, password in users.items():
        same = [line for line in before.splitlines() if kept(line, name, password)]
        lines.append(same[0] if same else f"{name}:{hashed(password, ''.join(secrets.choice(_SALT) for _ in range(16)))}")
    return "".join(line + "\n" for line in lines)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "group": {"type": "str", "required": True},
            "users": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    users = {str(name): str(password) for name, password in module.params["users"].items()}
    before = path.read_text() if path.is_file() else ""
    try:
        wanted = content(before, users)
        group = grp.getgrnam(module.params["group"]).gr_gid
    except (FileNotFoundError, KeyError) as error:
        # In check mode neither OpenSSL nor the group need be there yet.
        if module.check_mode:
            module.exit_json(changed=True)
        module.fail_json(msg=f"{path} can't be written: {error}")
    status = path.stat() if path.is_file() else None
    is_right = status is not None and (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, group, 0o640)
    if before == wanted and is_right:
        module.exit_json(changed=False)
    if not module.check_mode:
        os.umask(0o077)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as stream:
            stream.write(wanted)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(name, 0, group)
        Path(name).chmod(0o640)
        os.replace(name, path)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
