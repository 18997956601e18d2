"""What mkdicomweb makes of files, whatever they are and however often it is called."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from datasets import ct_study, of_kind
from mkdicomweb import create, run
from pydicom.data import get_testdata_files
from servers import SOURCES
from static_dicomweb.index import Index
from static_dicomweb.store import dicom


def state(root: Path) -> dict[str, str]:
    """Return every file of a tree, by its path, with its content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith((".static-dicomweb", "index.sqlite", "locks/")):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def rows(root: Path, level: str) -> list[str]:
    index = Index(root)
    try:
        return [row.uid or row.series or row.study for row in index.rows(level)]
    finally:
        index.close()


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    ct_study(40, given, rows=16)
    of_kind("sr", given)
    files = sorted(given.glob("*.dcm"))
    one, other = tmp_path / "one", tmp_path / "other"
    assert "41 rendered, 0 there already, 0 left out" in create(one, given).output
    # In another order, and in parts.
    assert create(other, *reversed(files[:20])).exit_code == 0
    assert create(other, *files[10:]).exit_code == 0
    assert state(one) == state(other)
    before = state(one)
    assert "0 rendered, 41 there already, 0 left out" in create(one, *files).output
    assert state(one) == before
    assert rows(one, "IMAGE") == rows(other, "IMAGE") and len(rows(one, "STUDY")) == 2


def test_two_at_once_make_what_one_makes(tmp_path: Path) -> None:
    ct_study(60, tmp_path, rows=16)
    files = list(map(str, sorted(tmp_path.glob("*.dcm"))))
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert create(alone, *map(Path, files)).exit_code == 0
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(both), "create", "--processes", "2"]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    running = [subprocess.Popen([*command, *order], env=environment) for order in (files, files[::-1])]
    assert [each.wait(120) for each in running] == [0, 0]
    assert state(both) == state(alone)


def test_what_was_killed_goes_on(tmp_path: Path) -> None:
    instances = ct_study(120, tmp_path, rows=256)
    root, whole = tmp_path / "tree", tmp_path / "whole"
    files = [str(instance.path) for instance in instances]
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(root), "create", "--processes", "2", *files]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SOURCES)}, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(root.glob("instances/*/*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    # Nothing of it is seen yet.
    assert not list((root / "studies").iterdir())
    time.sleep(0.5)
    done = create(root, *map(Path, files))
    assert done.exit_code == 0, done.output
    assert create(whole, *map(Path, files)).exit_code == 0
    assert state(root) == state(whole)


def test_a_study_that_grows_is_switched_as_a_whole(tmp_path: Path) -> None:
    instances = ct_study(6, tmp_path, rows=16)
    root = tmp_path / "tree"
    create(root, *(instance.path for instance in instances[:3]))
    (link,) = (root / "studies").iterdir()
    former = os.readlink(link)
    # Who has begun to read goes on with what he has.
    with (link / "metadata.br").open("rb") as reading:
        create(root, *(instance.path for instance in instances))
        assert os.readlink(link) != former
        assert not (root / "studies" / former).exists()
        assert reading.read()
    assert len(list((root / "versions" / link.name).iterdir())) == 1
    assert len(rows(root, "IMAGE")) == 6


def test_delete_and_rebuild(tmp_path: Path) -> None:
    instance, other = of_kind("ct", tmp_path), of_kind("mr", tmp_path)
    root = tmp_path / "tree"
    create(root, instance.path, other.path)
    whole = state(root)
    study = instance.dataset.StudyInstanceUID
    refused = run(root, "delete", study, "1.2.3")
    assert refused.exit_code == 1 and "has no study 1.2.3: nothing was removed" in refused.output
    assert run(root, "delete", "../x").exit_code == 2
    assert state(root) == whole
    assert run(root, "delete", study).exit_code == 0
    assert rows(root, "STUDY") == [other.dataset.StudyInstanceUID]
    assert not [name for name in state(root) if study in name]
    create(root, instance.path)
    assert state(root) == whole
    (root / "index.sqlite").unlink()
    assert run(root, "rebuild").exit_code == 0
    assert state(root) == whole and sorted(rows(root, "STUDY")) == sorted([study, other.dataset.StudyInstanceUID])


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    root = tmp_path / "tree"
    assert "1 would be rendered" in run(root, "create", "--dry-run", instance.path).output
    assert not list((root / "instances").iterdir()) and not list((root / "studies").iterdir())


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = of_kind("ct", tmp_path)
    content = good.path.read_bytes()
    bad = {}

    def file(name: str, content: bytes, said: str) -> None:
        (tmp_path / name).write_bytes(content)
        bad[tmp_path / name] = said

    file("text", b"no DICOM", "no DICOM file")
    file("empty", b"", "an empty file")
    file("truncated", content[:-5000], "it ends within")
    file("head", content[:140], "it")
    for name, keyword, value, said in (
        ("no study", "StudyInstanceUID", "", "it has no StudyInstanceUID"),
        ("path", "SeriesInstanceUID", "1.2/../../../../etc", "no UID"),
        ("dots", "SOPInstanceUID", "..", "no UID"),
        ("long", "SOPInstanceUID", "1." * 40 + "1", "no UID"),
    ):
        dataset = pydicom.dcmread(good.path)
        setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name)
        bad[tmp_path / name] = said
    other = pydicom.dcmread(good.path)
    other.PixelData = bytes(reversed(other.PixelData))
    other.save_as(tmp_path / "zz other content")
    bad[tmp_path / "zz other content"] = "same UIDs and other content"
    pixels = of_kind("mr", tmp_path)
    nothing = pydicom.dcmread(pixels.path)
    nothing.PixelData = b""
    nothing.save_as(pixels.path)

    root = tmp_path / "tree"
    done = create(root, good.path, *bad, pixels.path, tmp_path / "text")
    assert done.exit_code == 1
    for path, said in bad.items():
        assert [line for line in done.output.splitlines() if line.startswith(f"{path}: ") and said in line], (path, done.output)
    assert sorted(rows(root, "STUDY")) == sorted([good.dataset.StudyInstanceUID, pixels.dataset.StudyInstanceUID])
    (directory,) = root.glob(f"instances/*/*/{good.dataset.SOPInstanceUID}")
    assert b"".join(dicom(directory)) == content
    assert not list((root / "incoming").iterdir())


@pytest.mark.parametrize(
    "path", [path for path in get_testdata_files("*.dcm") if Path(path).is_file()], ids=lambda path: Path(path).name
)
def test_every_file_of_pydicom_is_kept_byte_for_byte_or_named(path: str, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    done = create(root, Path(path))
    kept = [directory for directory in root.glob("instances/*/*/*") if directory.parent.name != "shared"]
    if done.exit_code:
        assert done.output.count(f"{path}: ") == 1 and not kept
        return
    (directory,) = kept
    assert b"".join(dicom(directory)) == Path(path).read_bytes()
