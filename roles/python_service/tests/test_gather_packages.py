from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from gather_packages import locked_for, source_digest

PROGRAM = Path(__file__).parents[1] / "files/gather_packages.py"
LOCK = """\
# via something
always==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via dicomweb-site
older==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:cc
windows==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:dd
arm==4.0 ; platform_machine == 'aarch64' \\
    --hash=sha256:ee
"""


@pytest.mark.parametrize(
    ("python", "machine", "expected"),
    [
        ("3.13", "x86_64", ["always"]),
        ("3.10", "x86_64", ["always", "older"]),
        ("3.13", "aarch64", ["always", "arm"]),
    ],
)
def test_the_lock_is_read_for_the_host_and_not_for_this_machine(python: str, machine: str, expected: list[str]) -> None:
    lines = locked_for(LOCK, python, machine).splitlines()
    assert [line.split("==")[0] for line in lines] == expected
    assert lines[0] == "always==1.0 --hash=sha256:aa --hash=sha256:bb"


def make_project(directory: Path) -> None:
    (directory / "src/small").mkdir(parents=True)
    (directory / "src/small/__init__.py").write_text("VALUE = 1\n")
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "small"\nversion = "1"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["src/small"]\n'
    )


def gather(cache: Path, *arguments: str) -> Path:
    command = [
        sys.executable,
        str(PROGRAM),
        "--cache",
        str(cache),
        "--name",
        "small",
        "--python",
        "3.13",
        "--machine",
        "x86_64",
        *arguments,
    ]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def test_a_changed_source_has_another_digest(tmp_path: Path) -> None:
    make_project(tmp_path)
    before = source_digest(tmp_path)
    assert source_digest(tmp_path) == before
    (tmp_path / "src/elsewhere.py").write_text("")
    assert source_digest(tmp_path) == before
    (tmp_path / "src/small/more.py").write_text("")
    assert source_digest(tmp_path) != before


def test_a_branch_of_a_repository_is_gathered_anew_when_it_has_moved(tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_project(project)
    environment = os.environ | {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }

    def commit() -> None:
        for command in (["add", "-A"], ["commit", "-qm", "step"]):
            subprocess.run(["git", "-C", str(project), *command], check=True, env=environment)

    subprocess.run(["git", "init", "-q", "-b", "work", str(project)], check=True)
    commit()
    requirement = f"git+file://{project}@work"
    first = gather(tmp_path / "cache", "--requirement", requirement)
    assert gather(tmp_path / "cache", "--requirement", requirement) == first
    with tarfile.open(first) as archive:
        names = archive.getnames()
    assert "site-packages/small/__init__.py" in names and not [name for name in names if name.endswith(".pyc")]
    (project / "src/small/__init__.py").write_text("VALUE = 2\n")
    commit()
    assert gather(tmp_path / "cache", "--requirement", requirement) != first


def test_a_package_of_an_index_is_gathered_for_the_host(tmp_path: Path) -> None:
    """One with machine code: what this machine's own Python would take is not what the host needs."""
    with tarfile.open(gather(tmp_path, "--requirement", "markupsafe==3.0.4")) as archive:
        assert [name for name in archive.getnames() if name.endswith("cpython-313-x86_64-linux-gnu.so")]


def test_what_cannot_be_gathered_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--cache", str(tmp_path), "--name", "small", "--python", "3.13", "--machine", "x86_64"]
    done = subprocess.run([*command, "--requirement", str(tmp_path / "absent")], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "pip wheel failed" in done.stderr and str(tmp_path / "absent") in done.stderr
    assert not list(tmp_path.glob("*.tgz"))
