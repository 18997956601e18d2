"""A bundle is what was put into it, or it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SCRIPTS = Path(__file__).parents[1] / "files"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPTS / script), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """What a gathering has brought: a real package, a wheel, a binary, a collection."""
    directory = tmp_path / "parts"
    package = tmp_path / "package/DEBIAN"
    package.mkdir(parents=True)
    control = "Package: tiny\nVersion: 2:1.0~rc1+b1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    (package / "control").write_text(control)
    (directory / "repository").mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--build", package.parent, directory / "repository"], check=True, capture_output=True)
    for name in (
        "repository/InRelease",
        "repository.asc",
        "python/pydicom-3.0.2-py3-none-any.whl",
        "orthanc/orthanc/1.13.0/Orthanc",
        "collections/community-postgresql-4.2.0.tar.gz",
    ):
        (directory / name).parent.mkdir(exist_ok=True, parents=True)
        (directory / name).write_text(name)
    return directory


def assemble(parts: Path, bundle: Path) -> str:
    done = run("assemble.py", "--platform=Debian-13", "--architecture=x86_64", str(parts), str(bundle))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def opened(bundle: Path, cache: Path, *arguments: str) -> dict[str, Any]:
    done = run("open_bundle.py", str(bundle), f"--cache={cache}", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(bundle: Path, cache: Path, *arguments: str) -> str:
    done = run("open_bundle.py", str(bundle), f"--cache={cache}", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not [path for path in cache.glob("*") if path.suffix != ".part"], "it was opened all the same"
    return done.stderr


def repacked(bundle: Path, target: Path, change: dict[str, bytes | None]) -> Path:
    """Return a copy in which files have another content, are missing or are new."""
    (target.parent / "repacked").mkdir()
    subprocess.run(["tar", "--extract", f"--file={bundle}", f"--directory={target.parent}/repacked"], check=True)
    for name, content in change.items():
        path = target.parent / "repacked" / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    with tarfile.open(target, "w") as tar:
        tar.add(target.parent / "repacked", ".")
    return target


def test_what_was_put_in_comes_out(parts: Path, tmp_path: Path) -> None:
    digest = assemble(parts, tmp_path / "b.tar")
    told = opened(tmp_path / "b.tar", tmp_path / "cache", f"--sha256={digest}")
    assert (told["platform"], told["architecture"]) == ("Debian-13", "x86_64")
    for path in parts.rglob("*"):
        if path.is_file():
            assert (Path(told["directory"]) / path.relative_to(parts)).read_bytes() == path.read_bytes()
    with tarfile.open(f"{told['directory']}/repository.tar") as tar:
        assert {"repository.asc", "repository/InRelease"} <= set(tar.getnames())
    assert opened(tmp_path / "b.tar", tmp_path / "cache") == told


def test_its_list_of_components_is_valid_and_the_same_each_time(parts: Path, tmp_path: Path) -> None:
    assemble(parts, tmp_path / "b.tar")
    listed = (parts / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(listed) is None
    assert {component["purl"] for component in json.loads(listed)["components"]} == {
        "pkg:deb/debian/tiny@2%3A1.0~rc1%2Bb1?arch=all",
        "pkg:pypi/pydicom@3.0.2",
        "pkg:generic/Orthanc@1.13.0",
        "pkg:generic/ansible-collection/community-postgresql@4.2.0",
    }
    assemble(parts, tmp_path / "b2.tar")
    assert (parts / "sbom.cdx.json").read_text() == listed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orthanc/orthanc/1.13.0/Orthanc": b"another"}, "orthanc/orthanc/1.13.0/Orthanc has the SHA-256"),
        ({"sbom.cdx.json": b"{}"}, "sbom.cdx.json has the SHA-256"),
        ({"repository/InRelease": None}, "repository/InRelease is missing, which its manifest names"),
        ({"python/evil.whl": b"x"}, "python/evil.whl is in it, which its manifest doesn't name"),
        ({"manifest.json": b"{"}, "it has no manifest that can be read"),
        ({"manifest.json": None}, "it has no manifest that can be read"),
        ({"manifest.json": b'{"format": 2, "files": {}}'}, "its form is 2, and this version of the project knows 1"),
    ],
)
def test_what_was_changed_is_refused(parts: Path, tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    assemble(parts, tmp_path / "b.tar")
    said = refused(repacked(tmp_path / "b.tar", tmp_path / "other.tar", change), tmp_path / "cache")
    assert message in said
    assert "Copy it again" in said


def test_one_that_breaks_off_is_refused(parts: Path, tmp_path: Path) -> None:
    assemble(parts, tmp_path / "b.tar")
    content = (tmp_path / "b.tar").read_bytes()
    for size in (0, 100, len(content) // 2):
        (tmp_path / "cut.tar").write_bytes(content[:size])
        assert "bundle " in refused(tmp_path / "cut.tar", tmp_path / "cache")


def test_one_that_is_another_than_was_told_is_refused(parts: Path, tmp_path: Path) -> None:
    assemble(parts, tmp_path / "b.tar")
    assert "bundle_sha256 says 00" in refused(tmp_path / "b.tar", tmp_path / "cache", "--sha256=00")


def test_one_that_would_write_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "x", "../../outside")
    assert "it can't be unpacked" in refused(tmp_path / "b.tar", tmp_path / "cache")
    assert not (tmp_path.parent / "outside").exists()
