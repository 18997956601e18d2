#!/usr/bin/python
"""Ansible module: a release of a program's files, unpacked beside the one before and then made the current one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release
short_description: Have the content of an archive as the current release in a directory
description:
  - Unpacks the archive into DIRECTORY/NAME, whole or not at all, and has DIRECTORY/current point to it. The release before stays,
    for what still runs from it; older ones go. All of it is root's, and readable by all.
  - Where SELinux is, what was unpacked is given its types.
  - The archive is brought to the host only where it isn't the current release yet. In check mode only that is looked at.
options:
  directory:
    description: Directory of the releases.
    type: path
    required: true
  archive:
    description: A tar archive on the control node.
    type: path
    required: true
  name:
    description: Name of the release, such as a digest of what is in it.
    type: str
    required: true
"""


def current(directory: Path) -> str:
    """Return the name of the current release, empty where there is none."""
    with contextlib.suppress(OSError):
        return os.readlink(directory / "current")
    return ""


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive, whole or not at all."""
    part = target.with_name(f"{target.name}.new")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for entry in tar:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            if entry.name.startswith("/") or ".." in Path(entry.name).parts or not (entry.isdir() or entry.isfile()):
                raise ValueError(f"{entry.name} is no file or directory below the release")
            tar.extract(entry, part)
    os.sync()
    part.rename(target)


def forget_older(directory: Path, kept: set[str]) -> None:
    """Remove the releases that aren't kept."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Run the module; `unpacked_from` is the archive on the host, which the action brings where it is needed."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "unpacked_from": {"type": "path"},
        },
        supports_check_mode=True,
    )
    directory, name, archive = Path(module.params["directory"]), module.params["name"], module.params["unpacked_from"]
    former = current(directory)
    if former == name or not archive or module.check_mode:
        module.exit_json(changed=former != name)
    os.umask(0o022)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        if not (directory / name).is_dir():
            unpack(Path(archive), directory / name)
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg=f"{name} can't be unpacked into {directory}: {error}")
    if shutil.which("restorecon"):
        subprocess.run(["restorecon", "-R", str(directory)], check=False)
    link = directory / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(directory / "current")
    forget_older(directory, {name, former})
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
