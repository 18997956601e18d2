"""Static DICOMweb's part of `make bench`: how fast it is rendered on this machine, and served on a host of its own."""

from __future__ import annotations

import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(Path(__file__).parents[1] / "static")

from datasets import ct_study
from hosts import HOSTS
from lab import BENCH, PROJECT, line, on, on_bare_hosts, played, sent
from pydicom.uid import UID

ADDRESS = HOSTS[0].address
INSTANCES, LARGE, REPEATS = 100, 500, 5
SIZES = (100, 1000, 10_000, 100_000)
# Its plugin, whatever answers for the archive at the site's address.
ORTHANC = "http://127.0.0.1:8042/dicom-web"
WRK = "wrk --threads 2 --connections 8 --duration 5s"


def mkdicomweb(root: Path, *arguments: str) -> float:
    """Return the seconds that a call takes."""
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(root), *arguments]
    begun = time.monotonic()
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PROJECT / "files/src")}, capture_output=True, check=True)
    return time.monotonic() - begun


def rewriting(given: Path, root: Path) -> float:
    """Return the seconds that the other design takes."""
    begun = time.monotonic()
    subprocess.run([sys.executable, str(BENCH / "rewriting.py"), str(given), str(root)], check=True)
    return time.monotonic() - begun


def size(directory: Path) -> int:
    """Return the bytes that the files of a directory have on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


def rendering(directory: Path) -> None:
    given = directory / "given"
    given.mkdir()
    ct_study(INSTANCES, given)
    nothing = directory / "nothing"
    nothing.mkdir()
    own, other, starts = [], [], []
    for number in range(REPEATS):
        own.append(mkdicomweb(directory / f"own{number}", "create", str(given)))
        starts.append((mkdicomweb(directory / f"own{number}", "create", str(nothing)), rewriting(nothing, nothing)))
        other.append(rewriting(given, directory / f"other{number}"))
    # Loading Python and its libraries is left out, of both.
    mine, theirs = (
        statistics.median(all_of) - statistics.median(start)
        for all_of, start in zip((own, other), zip(*starts, strict=True), strict=True)
    )
    what = (
        f"{INSTANCES} CT instances rendered, times the instances a second of one file at a time with the study's documents for each"
    )
    line(what, theirs / mine, "at least 15", f"{INSTANCES / mine:.0f} and {INSTANCES / theirs:.0f} a second")
    source = size(given)
    what = "the tree on the disk, of its source"
    line(what, size(directory / "own0") / source, "at most 1.05", f"{size(directory / 'own0') / 1e6:.1f} of {source / 1e6:.1f} MB")


def small_study(count: int, directory: Path) -> None:
    """Write a study of many instances, which differ in number and UID alone."""
    directory.mkdir()
    [instance] = ct_study(1, directory, rows=16)
    instance.path.unlink()
    dataset = instance.dataset
    uid, number = UID("2.25." + "1" * 59), "123456"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.InstanceNumber = number
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    content = target.getvalue()
    assert content.count(uid.encode()) == 2 and content.count(number.encode()) == 1
    for each in range(1, count + 1):
        made = content.replace(uid.encode(), f"2.25.{each:059d}".replace("2.25.0", "2.25.1").encode()).replace(
            number.encode(), f"{each:06d}".encode()
        )
        (directory / f"{each}.dcm").write_bytes(made)


def growing(directory: Path) -> None:
    """Compare what an instance costs the processor in studies of many sizes; its pixels are few, so that many fit."""
    cost = {}
    for count in SIZES:
        small_study(count, directory / f"given{count}")
        before = os.times()
        mkdicomweb(directory / f"tree{count}", "create", str(directory / f"given{count}"))
        after = os.times()
        cost[count] = after.children_user + after.children_system - before.children_user - before.children_system
    # What a call costs at all is most of it for a hundred.
    start = cost[SIZES[0]]
    first = (cost[SIZES[1]] - start) / (SIZES[1] - SIZES[0])
    for count in SIZES[2:]:
        each = (cost[count] - start) / (count - SIZES[0])
        what = f"processor time of an instance of a study of {count}, of one of a study of {SIZES[1]}"
        line(what, each / first, "level", f"{each * 1e3:.2f} of {first * 1e3:.2f} ms")


def requests_a_second(url: str, accept: str, encoding: str) -> float:
    headers = f"-H 'Accept: {accept}' -H 'Accept-Encoding: {encoding}'"
    said = on(ADDRESS, f"{WRK} {headers} '{url}'")
    assert "Non-2xx" not in said, said
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def latency(url: str) -> float:
    """Return the median milliseconds from a request to its last byte, each over a connection of its own."""
    ask = f"curl --silent --fail --output /dev/null --write-out '%{{time_total}} ' {url}"
    times = on(ADDRESS, f"for n in $(seq 20); do {ask}; done").split()
    return statistics.median(map(float, times)) * 1000


def serving() -> None:
    played("site.yml")
    on(ADDRESS, "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends wrk curl")
    study = sent(ADDRESS, "ORTHANC", LARGE)
    path = f"/static-dicomweb/studies/{study}"
    url, orthanc_url = f"http://127.0.0.1:9080{path}", f"{ORTHANC}/studies/{study}"
    deadline = time.monotonic() + 300
    while f"'{LARGE}'" not in on(
        ADDRESS,
        f"curl -s http://127.0.0.1:9080{path}/instances -H 'Accept: application/dicom+json' | "
        'python3 -c "import json,sys; print(repr(str(len(json.load(sys.stdin)))))" 2>/dev/null || true',
    ):
        assert time.monotonic() < deadline, "the study never came"
        time.sleep(2)
    plain = int(on(ADDRESS, f"curl -s -H 'Accept: application/dicom+json' {orthanc_url}/metadata | wc -c"))
    for encoding in ("br", "zstd", "gzip"):
        packed = int(on(ADDRESS, f"curl -s -H 'Accept-Encoding: {encoding}' http://127.0.0.1:9080{path}/metadata | wc -c"))
        what = f"plain DICOM JSON of the metadata of {LARGE} instances, of its bytes as {encoding}"
        line(what, plain / packed, "at least 100", f"{plain / 1e3:.0f} and {packed / 1e3:.1f} KB")
    own = requests_a_second(f"{url}/metadata", "application/dicom+json", "br")
    orthancs = requests_a_second(f"{orthanc_url}/metadata", "application/dicom+json", "identity")
    line(f"metadata of {LARGE} instances a second, of Orthanc's", own / orthancs, "at least 20", f"{own:.0f} and {orthancs:.1f}")
    # Instances below a study are told without their series: of the one that there is.
    [series] = json.loads(on(ADDRESS, f"curl -s --fail http://127.0.0.1:9080{path}/series"))
    [instance, *_] = json.loads(on(ADDRESS, f"curl -s --fail http://127.0.0.1:9080{path}/instances"))
    series, uid = series["0020000E"]["Value"][0], instance["00080018"]["Value"][0]
    frame = f"series/{series}/instances/{uid}/frames/1"
    mine, theirs = latency(f"{url}/{frame}"), latency(f"{orthanc_url}/{frame}")
    line("the first frame, of Orthanc's", mine / theirs, "below 1", f"{mine:.2f} of {theirs:.2f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rendering(Path(name))
        growing(Path(name))
    on_bare_hosts(serving)


if __name__ == "__main__":
    main()
