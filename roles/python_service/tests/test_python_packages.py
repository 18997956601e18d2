from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail
from python_packages import Gatherer, locked_for, source_digest

HOSTS = Gatherer("3.13", "x86_64")
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

    cache = tmp_path / "cache"
    cache.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "work", str(project)], check=True)
    commit()
    requirement = f"git+file://{project}@work"
    first = HOSTS.required(cache, requirement)
    assert HOSTS.required(cache, requirement) == first
    with tarfile.open(first) as archive:
        names = archive.getnames()
    assert "site-packages/small/__init__.py" in names and not [name for name in names if name.endswith(".pyc")]
    (project / "src/small/__init__.py").write_text("VALUE = 2\n")
    commit()
    assert HOSTS.required(cache, requirement) != first


def test_a_package_of_an_index_is_gathered_for_the_host(tmp_path: Path) -> None:
    """One with machine code: what this machine's own Python would take is not what the host needs."""
    with tarfile.open(HOSTS.required(tmp_path, "markupsafe==3.0.4")) as archive:
        assert [name for name in archive.getnames() if name.endswith("cpython-313-x86_64-linux-gnu.so")]


def test_what_cannot_be_gathered_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="pip wheel failed") as said:
        HOSTS.required(tmp_path, str(tmp_path / "absent"))
    assert str(tmp_path / "absent") in str(said.value)
    assert not list(tmp_path.glob("*.tgz"))


def test_a_project_is_gathered_once_for_all_that_its_lock_file_names(tmp_path: Path) -> None:
    """Services that share a lock file share an archive; another Python or another source has another."""
    make_project(tmp_path)
    (tmp_path / "some.txt").write_text("# nothing but the project\n")
    first = HOSTS.locked(tmp_path, tmp_path, tmp_path / "some.txt")
    made = first.stat().st_mtime_ns
    assert HOSTS.locked(tmp_path, tmp_path, tmp_path / "some.txt") == first and first.stat().st_mtime_ns == made
    assert Gatherer("3.12", "x86_64").locked(tmp_path, tmp_path, tmp_path / "some.txt") != first
    with tarfile.open(first) as archive:
        assert "site-packages/small/__init__.py" in archive.getnames()


def test_what_a_wheelhouse_lacks_is_not_asked_of_an_index(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with pytest.raises(AnsibleActionFail, match="No matching distribution"):
        Gatherer("3.13", "x86_64", str(tmp_path / "wheels")).required(tmp_path, "markupsafe==3.0.4")
