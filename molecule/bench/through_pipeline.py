"""The pipeline's part of `make bench`, on a host of its own: how soon and how fast studies come out."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(Path(__file__).parents[1] / "pipeline")

import lab
from datasets import ct_study
from hosts import HOSTS, SSH
from lab import brought, line, on_bare_hosts, peak_kb, played

ADDRESS = HOSTS[0].address
PYTHON = "/opt/dicomweb-site/pipeline-monitor/current/venv/bin/python"
INSTANCES, REPEATS = 100, 5
POLLS = 20
POLL_SECONDS = 5
TREE, POLLED = "/var/lib/received_dicom", "/srv/polled"


def on(command: str) -> str:
    return lab.on(ADDRESS, command)


def sent(count: int) -> str:
    """Send a new study to the gateway and return its UID."""
    return lab.sent(ADDRESS, "ORTHANC1", count)


def watched(tree: str) -> dict[str, float]:
    """Send a new study and return when it had got how far."""
    with tempfile.TemporaryDirectory() as name:
        instances = ct_study(INSTANCES, Path(name))
        uid = instances[0].dataset.StudyInstanceUID
        command = ["ssh", *SSH, f"root@{ADDRESS}", f"python3 /root/watch.py {uid} {INSTANCES} {tree}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
            assert watcher.stdout and watcher.stdout.readline() == "ready\n"
            lab.store(ADDRESS, "ORTHANC1", Path(name))
            return dict(json.loads(watcher.stdout.readline()))


def watched_at_random() -> dict[str, float]:
    """Send a new study at any moment between two polls: one after the other, all would meet much the same one."""
    time.sleep(random.uniform(0, POLL_SECONDS))
    return watched(POLLED)


def extraction(times: dict[str, float]) -> float:
    return times["file"] - times["stable at the storage"]


def forwarding(times: dict[str, float]) -> float:
    return times["stored"] - times["stable at the gateway"]


def moved(uid: str, environment: str) -> float:
    """Return the seconds of DCMTK's C-MOVE of a study to itself."""
    begun = time.monotonic()
    to = "-aet PYTHON_SCP -aem PYTHON_SCP -aec ORTHANC2 --port 11112 +xa -od /srv/moved"
    what = f"-S -k QueryRetrieveLevel=STUDY -k StudyInstanceUID={uid}"
    on(f"rm -rf /srv/moved && mkdir /srv/moved && {environment} movescu {to} {what} 127.0.0.1 4243")
    return time.monotonic() - begun


def came(tree: str, count: int) -> float:
    """Return the seconds until so many files are there."""
    begun = time.monotonic()
    on(f"until [ $(find {tree} -name '*.dcm' -not -path '*/.*' | wc -l) -ge {count} ]; do sleep 0.1; done")
    return time.monotonic() - begun


@contextmanager
def polling(seconds: int, which: str) -> Iterator[None]:
    """Have the plain design work in the monitor's place."""
    on("systemctl stop pipeline-monitor")
    command = f"rm -rf {POLLED} && mkdir {POLLED} && {PYTHON} /root/polling.py {POLLED} {seconds} {which}"
    with subprocess.Popen(["ssh", *SSH, f"root@{ADDRESS}", command], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        process = int(started.stdout.readline())
        yield
        on(f"kill {process}")
    on("systemctl start pipeline-monitor")


def peak() -> int:
    return peak_kb(ADDRESS, "pipeline-monitor")


def stored_instances() -> int:
    program = "import json, urllib.request as u; print(json.load(u.urlopen('http://127.0.0.1:8043/statistics'))['CountInstances'])"
    return int(on(f'python3 -c "{program}"'))


def measure() -> None:
    played("site.yml")
    brought(ADDRESS, "watch.py", "polling.py")
    ours = [watched(TREE) for _ in range(2 * REPEATS)]
    uid = sent(INSTANCES)
    came(f"{TREE}/*/{uid}", INSTANCES)
    small = peak()

    on("systemctl stop pipeline-monitor")
    tuned = statistics.median(moved(uid, "TCP_NODELAY=1") for _ in range(REPEATS))
    plain = statistics.median(moved(uid, "") for _ in range(REPEATS))
    on("systemctl start pipeline-monitor")
    own = statistics.median(forwarding(times) + extraction(times) for times in ours)
    what = f"a study of {INSTANCES} CT instances through the pipeline, its stable ages taken off, of a bare C-MOVE by DCMTK"
    line(f"{what} as installed", own / plain, "at most 2", f"{own:.2f} of {plain:.2f} s")
    line(f"{what} without Nagle's algorithm", own / tuned, "at most 2", f"{own:.2f} of {tuned:.2f} s")

    with polling(600, "new"):
        theirs = [watched_at_random() for _ in range(POLLS)]
    mine, other = (statistics.mean(map(extraction, each)) for each in (ours, theirs))
    what = f"from stable at the storage to the last file, times sooner than polling every {POLL_SECONDS} s (means)"
    line(what, other / mine, "at least 5", f"{mine:.2f} of {other:.2f} s")

    count = stored_instances()
    on(f"systemctl stop pipeline-monitor; rm -rf /var/lib/pipeline-monitor/* {TREE}/*; systemctl start pipeline-monitor")
    ours_all = came(TREE, count)
    together = peak()
    with polling(600, "all"):
        theirs_all = came(POLLED, count)
    what = f"{count} instances that wait, times the polling design's instances a second"
    line(what, theirs_all / ours_all, "at least 3", f"{count / ours_all:.0f} and {count / theirs_all:.0f} a second")

    on("systemctl restart pipeline-monitor")
    large = sent(INSTANCES * 6)
    came(f"{TREE}/*/{large}", INSTANCES * 6)
    what = f"memory of the monitor for a study of {INSTANCES * 6} instances, of that for {INSTANCES}"
    line(what, peak() / small, "flat", f"{peak() // 1024} of {small // 1024} MB; {together // 1024} MB for all studies at once")


if __name__ == "__main__":
    on_bare_hosts(measure)
