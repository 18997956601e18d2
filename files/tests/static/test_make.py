"""What mkdicomweb makes of files, whatever they are and however often it is called."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from datasets import PYDICOM_FILES, ct_study, of_kind
from dicomweb.pixels import frame_count
from dimse.part10 import DEFLATED, file_head
from mkdicomweb import create, run
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.pixels import pixel_array
from servers import with_sources
from static_dicomweb.index import Index
from static_dicomweb.publish import Metadata
from static_dicomweb.store import dicom

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


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
    environment = with_sources()
    running = [subprocess.Popen([*command, *order], env=environment) for order in (files, files[::-1])]
    assert [each.wait(120) for each in running] == [0, 0]
    assert state(both) == state(alone)


def test_what_was_killed_goes_on(tmp_path: Path) -> None:
    instances = ct_study(120, tmp_path, rows=256)
    root, whole = tmp_path / "tree", tmp_path / "whole"
    files = [str(instance.path) for instance in instances]
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(root), "create", "--processes", "2", *files]
    process = subprocess.Popen(command, env=with_sources(), start_new_session=True)
    deadline = time.monotonic() + 180
    while not list(root.glob("instances/*/*/*")):
        assert time.monotonic() < deadline, "no instance was ever rendered"
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


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_is_kept_byte_for_byte_or_named(path: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    done = create(root, path)
    kept = [directory for directory in root.glob("instances/*/*/*") if directory.parent.name != "shared"]
    if done.exit_code:
        assert done.output.count(f"{path}: ") == 1 and not kept
        return
    (directory,) = kept
    assert b"".join(dicom(directory)) == path.read_bytes()
    dataset = pydicom.dcmread(path, force=True)
    model = Metadata(root / "instances" / dataset.StudyInstanceUID / "shared").attributes(directory)
    is_as_pydicom_reads_it(directory, dataset, model)
    has_the_frames(directory, dataset)


def is_as_pydicom_reads_it(directory: Path, dataset: pydicom.Dataset, model: dict[str, Any], before: str = "") -> None:
    """Compare every attribute, and every value that has an address, inside sequences too."""
    tags = [tag for tag in dataset.keys() if tag.group != 2 and tag.element != 0]  # noqa: SIM118 - else its elements are read
    assert {int(tag, 16) for tag in model} == set(map(int, tags))
    for tag in tags:
        name = f"{tag:08X}"
        attribute = model[name]
        try:
            element = dataset[tag]
        except ValueError:
            # Letters in an IS, for one.
            assert attribute["vr"] == "UN"
            continue
        if element.VR == "SQ":
            assert len(attribute.get("Value", [])) == len(element.value)
            for number, (item, inner) in enumerate(zip(element.value, attribute.get("Value", []), strict=True), 1):
                is_as_pydicom_reads_it(directory, item, inner, f"{before}{name}.{number}.")
        elif "BulkDataURI" in attribute and element.keyword not in PIXELS:
            assert attribute["BulkDataURI"].endswith(f"/bulkdata/{before}{name}")
            content = (directory / f"bulkdata-{before}{name}").read_bytes()
            assert content == element.value or isinstance(element.value, (str, MultiValue))
        elif "InlineBinary" in attribute and isinstance(element.value, bytes):
            assert base64.b64decode(attribute["InlineBinary"]) == element.value
        elif element.VR in ("UI", "CS", "SH", "LO", "DA", "TM", "US", "UL", "SS", "SL", "FD", "FL") and tag != 0x00080005:
            values = list(element.value) if element.VM > 1 else [element.value] if element.VM else []
            assert [value or None for value in attribute.get("Value", [])] == [value or None for value in values], name


def has_the_frames(directory: Path, dataset: pydicom.Dataset) -> None:
    found = sorted(directory.glob("frame-*[0-9]"), key=lambda frame: int(frame.stem.partition("-")[2]))
    if not found:
        # None that can be told apart: no pixels, or fewer than the instance says.
        return
    count = frame_count(dataset)
    assert len(found) == count
    content = next(dataset[keyword].value for keyword in PIXELS if keyword in dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        assert [frame.read_bytes() for frame in found] == list(generate_frames(content, number_of_frames=count))
    elif dataset.file_meta.TransferSyntaxUID.is_little_endian and dataset.BitsAllocated >= 8:
        together = b"".join(frame.read_bytes() for frame in found)
        assert together and content.startswith(together)
    else:
        pixels = pixel_array(dataset, raw=True)
        if dataset.get("PlanarConfiguration"):
            # pydicom has colors beside each other; a frame has them as they are stored.
            pixels = np.moveaxis(pixels, -1, -3)
        pixels = pixels.reshape(count, -1)
        for frame, expected in zip(found, pixels, strict=True):
            expected = np.packbits(expected, bitorder="little") if dataset.BitsAllocated == 1 else expected
            assert frame.read_bytes() == expected.astype(expected.dtype.newbyteorder("<")).tobytes()


def test_a_bomb_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = of_kind("ct", tmp_path)
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    beginning = struct.pack("<HH2sH10s", 0x0008, 0x0018, b"UI", 10, b"1.2.3.4.5\0") + struct.pack(
        "<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 600 << 20
    )
    packed = packing.compress(beginning) + b"".join(packing.compress(bytes(1 << 20)) for _ in range(600)) + packing.flush()
    bomb = tmp_path / "bomb"
    bomb.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4.5", DEFLATED) + packed)
    assert bomb.stat().st_size < 1 << 20
    done = create(tmp_path / "tree", bomb, good.path)
    assert done.exit_code == 1 and f"{bomb}: it inflates to more than 256 MB" in done.output
    assert rows(tmp_path / "tree", "STUDY") == [good.dataset.StudyInstanceUID]


def test_what_a_full_disk_stopped_goes_on(small_disk: Path, tmp_path: Path) -> None:
    instances = ct_study(40, tmp_path, rows=64)
    files = [instance.path for instance in instances]
    root, whole = small_disk / "tree", tmp_path / "whole"
    done = create(root, *files)
    assert done.exit_code == 1 and "No space left on device. What was rendered is kept: run it again" in done.output
    # Nothing of it is seen yet.
    assert not list((root / "studies").iterdir())
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert create(root, *files).exit_code == 0
    assert create(whole, *files).exit_code == 0
    assert state(root) == state(whole)
