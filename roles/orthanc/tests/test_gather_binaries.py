"""Orthanc's binaries are had with the sums that the site has pinned, or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import gather_binaries
import pytest
from gather_binaries import Binary, gather, record


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name in ("orthanc/1.13.0/Orthanc", "orthanc-dicomweb/1.24/libOrthancDicomWeb.so"):
        path = tmp_path / "mirror" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    return tmp_path / "mirror"


def binaries(mirror: Path) -> list[Binary]:
    return [
        {
            "path": str(path.relative_to(mirror)),
            "directory": "bin" if path.name == "Orthanc" else "plugins",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(mirror.rglob("*"))
        if path.is_file()
    ]


def test_they_come_as_one_archive_and_are_not_fetched_twice(mirror: Path, tmp_path: Path) -> None:
    wanted = binaries(mirror)
    archive = gather(f"file://{mirror}", wanted, tmp_path / "cache")
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == ["bin/Orthanc", "plugins/libOrthancDicomWeb.so"]
        assert {entry.mode for entry in tar} == {0o755}
    assert gather("http://127.0.0.1:9", wanted, tmp_path / "cache") == archive


def test_one_with_another_sum_is_refused_and_not_kept(mirror: Path, tmp_path: Path) -> None:
    wanted = binaries(mirror)
    (mirror / wanted[1]["path"]).write_text("another")
    with pytest.raises(SystemExit, match=r"has the SHA-256 .*, but orthanc_lsb_sha256 has"):
        gather(f"file://{mirror}", wanted, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and "another" in path.read_text()]


def test_one_without_a_sum_is_refused_before_it_is_fetched(mirror: Path, tmp_path: Path) -> None:
    wanted = binaries(mirror)
    wanted[0]["sha256"] = ""
    with pytest.raises(SystemExit, match=r"playbooks/orthanc_sums\.yml"):
        gather("http://127.0.0.1:9", wanted, tmp_path / "cache")


def test_a_mirror_that_lacks_one_is_named(mirror: Path, tmp_path: Path) -> None:
    wanted = binaries(mirror)
    (mirror / wanted[0]["path"]).unlink()
    with pytest.raises(SystemExit, match=r"can't be fetched: .*Correct orthanc_lsb_mirror"):
        gather(f"file://{mirror}", wanted, tmp_path / "cache")


def test_what_is_recorded_is_what_is_there(mirror: Path, tmp_path: Path) -> None:
    wanted = binaries(mirror)
    assert record(f"file://{mirror}", wanted, tmp_path / "cache") == {one["path"]: one["sha256"] for one in wanted}


def test_several_at_once_fetch_it_once(mirror: Path, tmp_path: Path) -> None:
    asked = json.dumps({"mirror": f"file://{mirror}", "binaries": binaries(mirror)})
    command = [sys.executable, gather_binaries.__file__, "gather", f"--cache={tmp_path / 'cache'}"]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {each.communicate(asked, timeout=60)[0] for each in started}
    assert len(said) == 1
    assert all(each.returncode == 0 for each in started)
