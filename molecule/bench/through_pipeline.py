"""The pipeline's part of `make bench`, on a host of its own: how soon and how fast studies come out."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
BENCH = Path(__file__).parent
os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(PROJECT / "molecule/pipeline")
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / "files/src")]

from datasets import ct_study  # noqa: E402 - the path is set above
from hosts import HOSTS, LAB, play  # noqa: E402

ADDRESS = HOSTS[0].address
SSH = ["-i", str(LAB / "id_ed25519"), "-o", f"UserKnownHostsFile={LAB}/known_hosts", "-o", "BatchMode=yes"]
PYTHON = "/opt/dicomweb-site/pipeline-monitor/current/venv/bin/python"
INSTANCES, REPEATS = 100, 5
TREE, POLLED = "/var/lib/received_dicom", "/srv/polled"


def played(playbook: str) -> None:
    ended = play(playbook, timeout=900)
    if ended.returncode:
        raise SystemExit(f"{playbook} failed:\n{ended.stdout[-3000:]}{ended.stderr[-2000:]}")


def on(command: str) -> str:
    return subprocess.run(["ssh", *SSH, f"root@{ADDRESS}", command], capture_output=True, text=True, check=True).stdout


def sent(count: int) -> str:
    """Send a new study to the gateway and return its UID."""
    with tempfile.TemporaryDirectory() as name:
        instances = ct_study(count, Path(name))
        store(instances[0].path.parent)
        return str(instances[0].dataset.StudyInstanceUID)


def store(directory: Path) -> None:
    command = [sys.executable, "-m", "dimse.send", ADDRESS, "4242", str(directory)]
    subprocess.run(command, env={"PYTHONPATH": str(PROJECT / "files/src")}, capture_output=True, check=True)


def watched(tree: str) -> dict[str, float]:
    """Send a new study and return when it had got how far."""
    with tempfile.TemporaryDirectory() as name:
        instances = ct_study(INSTANCES, Path(name))
        uid = instances[0].dataset.StudyInstanceUID
        command = ["ssh", *SSH, f"root@{ADDRESS}", f"python3 /root/watch.py {uid} {INSTANCES} {tree}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
            assert watcher.stdout and watcher.stdout.readline() == "ready\n"
            store(Path(name))
            return dict(json.loads(watcher.stdout.readline()))


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


def line(what: str, figure: float, aim: str, measured: str) -> None:
    print(f"| {what} | {figure:.2f} | {aim} | {measured} |", flush=True)


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
    """Return the most memory that the monitor had since its start, in kB."""
    return int(on("grep VmHWM /proc/$(systemctl show --property=MainPID --value pipeline-monitor)/status").split()[1])


def stored_instances() -> int:
    program = "import json, urllib.request as u; print(json.load(u.urlopen('http://127.0.0.1:8043/statistics'))['CountInstances'])"
    return int(on(f'python3 -c "{program}"'))


def measure() -> None:
    on("DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends dcmtk")
    programs = [str(BENCH / "watch.py"), str(BENCH / "polling.py")]
    subprocess.run(["scp", *SSH, *programs, f"root@{ADDRESS}:/root/"], check=True, capture_output=True)
    ours = [watched(TREE) for _ in range(REPEATS)]
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
        theirs = [watched(POLLED) for _ in range(REPEATS)]
    mine, other = (statistics.mean(map(extraction, each)) for each in (ours, theirs))
    what = "from stable at the storage to the last file, times sooner than polling every 5 s (means)"
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


def main() -> None:
    played("molecule/shared/destroy.yml")
    played("molecule/shared/create.yml")
    try:
        played("site.yml")
        measure()
    finally:
        if not os.environ.get("BENCH_KEEP"):
            played("molecule/shared/destroy.yml")


if __name__ == "__main__":
    main()
