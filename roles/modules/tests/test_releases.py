from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
from releases import current, forget_older, unpack


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "content/bin").mkdir(parents=True)
    (tmp_path / "content/bin/program").write_text("x")
    (tmp_path / "content/bin/program").chmod(0o700)
    (tmp_path / "content/secret").write_text("y")
    (tmp_path / "content/secret").chmod(0o600)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "content", ".")
    return tmp_path / "a.tar"


def test_what_is_unpacked_is_readable_by_all(archive: Path, tmp_path: Path) -> None:
    unpack(archive, tmp_path / "one")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "one").rglob("*")}
    assert modes == {"bin": 0o755, "program": 0o755, "secret": 0o644}


def test_one_that_breaks_off_leaves_no_release(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[:1500])
    with pytest.raises((tarfile.TarError, OSError)):
        unpack(archive, tmp_path / "one")
    assert not (tmp_path / "one").exists()
    archive.write_bytes(content)
    unpack(archive, tmp_path / "one")
    assert (tmp_path / "one/secret").read_text() == "y"


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil"])
def test_one_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        entry = tar.gettarinfo(tmp_path / "x")
        entry.name = name
        with (tmp_path / "x").open("rb") as stream:
            tar.addfile(entry, stream)
    with pytest.raises(ValueError, match="below the release"):
        unpack(tmp_path / "a.tar", tmp_path / "one")


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "link", "link")
    with pytest.raises(ValueError, match="below the release"):
        unpack(tmp_path / "a.tar", tmp_path / "one")


def test_the_current_one_and_the_one_before_stay(tmp_path: Path) -> None:
    for name in ("one", "two", "three", "three.new"):
        (tmp_path / name).mkdir()
    assert current(tmp_path) == ""
    (tmp_path / "current").symlink_to("three")
    forget_older(tmp_path, {current(tmp_path), "two"})
    assert {path.name for path in tmp_path.iterdir()} == {"two", "three", "current"}


def test_packages_become_a_virtual_environment_at_its_own_path(tmp_path: Path) -> None:
    packages = tmp_path / "content/site-packages"
    packages.mkdir(parents=True)
    (packages / "told.py").write_text("import sys\ndef main(): print(sys.prefix, main.__code__.co_filename)\n")
    (tmp_path / "content/bin").mkdir()
    (tmp_path / "content/bin/tell").write_text("#!/somewhere/else\nimport told\ntold.main()\n")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "content", ".")
    unpack(tmp_path / "a.tar", tmp_path / "one", "python3")
    venv = tmp_path / "one/venv"
    said = subprocess.run([venv / "bin/tell"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    (told,) = venv.rglob("told.py")
    assert said == [str(venv), str(told)]
    assert list(told.parent.glob("__pycache__/told.*.pyc"))
    assert not [path for path in venv.rglob("*") if path.is_file() and path.suffix != ".pyc" and b"one.new" in path.read_bytes()]


def test_one_whose_python_is_absent_leaves_no_release(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"python3\.0"):
        unpack(archive, tmp_path / "one", "python3.0")
    assert not (tmp_path / "one").exists()
