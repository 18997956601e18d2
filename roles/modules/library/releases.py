#!/usr/bin/python
"""Ansible module: releases of programs' files, each unpacked beside the one before and then made the current one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: releases
short_description: Have the content of archives as the current releases in directories
author: DICOMweb site maintainers
description:
  - Unpacks each archive into DIRECTORY/NAME, whole or not at all, and has DIRECTORY/current point to it. The release before stays,
    for what still runs from it; older ones go. All of it is root's, and readable by all.
  - Where SELinux is, what was unpacked is given its types.
  - An archive is brought to the host only where it isn't the current release yet. In check mode only that is looked at.
options:
  releases:
    description: The releases.
    type: list
    elements: dict
    required: true
    suboptions:
      directory: {description: Directory of the releases., type: path, required: true}
      archive: {description: A tar archive on the control node., type: path, required: true}
      name: {description: "Name of the release, such as a digest of what is in it.", type: str, required: true}
      python:
        description: >-
          Python of the host that C(venv) in the release is made with, a virtual environment of what the archive has in
          C(site-packages) and of the scripts in C(bin). Without it the archive's content is the release.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Install the programs
  releases:
    releases:
      - {directory: /opt/program, name: 4b1f22c0, archive: /root/.cache/program-4b1f22c0.tar}
"""

RETURN = r"""
directories:
  description: Directories whose current release was not the wanted one.
  type: list
  returned: always
"""


def current(directory: Path) -> str:
    """Return the name of the current release, empty where there is none."""
    with contextlib.suppress(OSError):
        return os.readlink(directory / "current")
    return ""


def unpack(archive: Path, target: Path, python: str = "") -> None:
    """Unpack an archive, whole or not at all; with a Python, into a virtual environment."""
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
    if python:
        make_virtual_environment(part, target, python)
    os.sync()
    part.rename(target)


def make_virtual_environment(part: Path, target: Path, python: str) -> None:
    """Make `venv` of `site-packages` and `bin` in a directory that is to be renamed to the target."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(part / "venv")], check=True)
    programs = part / "venv/bin"
    for written in [part / "venv/pyvenv.cfg", *programs.glob("[aA]ctivate*")]:
        written.write_text(written.read_text().replace(str(part), str(target)))
    (packages,) = (part / "venv/lib").glob("python3.*/site-packages")
    packages.rmdir()
    (part / "site-packages").rename(packages)
    for script in (part / "bin").iterdir() if (part / "bin").is_dir() else []:
        _, newline, rest = script.read_text().partition("\n")
        (programs / script.name).write_text(f"#!{target}/venv/bin/python{newline}{rest}")
        (programs / script.name).chmod(0o755)
    shutil.rmtree(part / "bin", ignore_errors=True)
    # A third of what is installed are the libraries' own tests, which nobody imports.
    options = ["-q", "-j", "0", "-x", r"/site-packages/.*/tests/", "-s", str(part), "-p", str(target)]
    subprocess.run([str(programs / "python"), "-m", "compileall", *options, str(packages)], check=True)


def forget_older(directory: Path, kept: set[str]) -> None:
    """Remove the releases that aren't kept."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def install(directory: Path, name: str, archive: Path, python: str) -> None:
    """Make the release in an archive the current one."""
    former = current(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / name).is_dir():
        unpack(archive, directory / name, python)
    if shutil.which("restorecon"):
        subprocess.run(["restorecon", "-R", str(directory)], check=False)
    link = directory / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(directory / "current")
    forget_older(directory, {name, former})


def main() -> None:
    """Run the module; `unpacked_from` is an archive on the host, which the action brings where it is needed."""
    release = {
        "directory": {"type": "path", "required": True},
        "name": {"type": "str", "required": True},
        "python": {"type": "str", "default": ""},
        "unpacked_from": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={"releases": {"type": "list", "elements": "dict", "required": True, "options": release}},
        supports_check_mode=True,
    )
    os.umask(0o022)
    wanted = [one for one in module.params["releases"] if current(Path(one["directory"])) != one["name"]]
    for one in wanted:
        if not one["unpacked_from"] or module.check_mode:
            continue
        try:
            install(Path(one["directory"]), one["name"], Path(one["unpacked_from"]), one["python"])
        except (OSError, ValueError, tarfile.TarError, subprocess.CalledProcessError) as error:
            module.fail_json(msg=f"{one['name']} can't be unpacked into {one['directory']}: {error}")
    module.exit_json(changed=bool(wanted), directories=[one["directory"] for one in wanted])


if __name__ == "__main__":
    main()
