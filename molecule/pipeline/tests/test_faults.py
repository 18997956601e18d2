"""Twenty studies while everything fails that can: every instance comes out once, with the dataset that was sent."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from datasets import ct_study, same
from dimse_client import Modality
from hosts import SSH, Host, play
from pipeline_services import wait_for
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

GATEWAY = (4242, "ORTHANC1")
STUDIES, INSTANCES = 20, 100
TREE = "/var/lib/received_dicom"


def in_tree(host: Host) -> int:
    return int(host.run(f"find {TREE} -name '*.dcm' -not -path '*/.*' | wc -l"))


def received(host: Host, directory: Path) -> dict[str, Dataset]:
    """Fetch the tree and read it; no instance may be there twice."""
    command = ["ssh", *SSH, f"root@{host.address}", f"tar -C {TREE} --exclude='./.*' -cf - ."]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    directory.mkdir()
    subprocess.run(["tar", f"--directory={directory}", "-xf", "-"], input=archive, check=True)
    files = list(directory.rglob("*.dcm"))
    found: dict[str, Dataset] = {}
    for path in files:
        dataset = pydicom.dcmread(path)
        assert path.parts[-3:] == (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, f"{dataset.SOPInstanceUID}.dcm")
        assert dataset.SOPInstanceUID not in found, "an instance is there twice"
        # On a busy machine the study that verify.yml had stored may have been taken out before it was removed.
        if dataset.PatientID != "DICOMWEB-VERIFY":
            found[dataset.SOPInstanceUID] = dataset
    return found


def kill(unit: str) -> Callable[[Host], None]:
    def strike(host: Host) -> None:
        for _ in range(2):
            time.sleep(1)
            host.run(f"systemctl kill --signal=KILL --kill-whom=all {unit}")
        # PostgreSQL's unit is started by whoever is in charge.
        host.run(f"systemctl is-active --quiet {unit} || sleep 6; systemctl start {unit}")

    return strike


def cut_the_network(host: Host) -> None:
    """Between gateway and storage, for a minute."""
    host.run("nft add table inet cut && nft add chain inet cut out '{ type filter hook output priority 0; }'")
    host.run("nft add rule inet cut out meta skuid orthanc tcp dport 8043 drop")
    try:
        time.sleep(60)
    finally:
        host.run("nft delete table inet cut")


def fill_the_disk(host: Host) -> None:
    """The tree moves to a file system with no room, which is given some afterwards."""
    host.run(
        "systemctl stop pipeline-monitor.service && mkdir -p /srv/kept && mv /var/lib/received_dicom /srv/kept/ && "
        f"size=$(du --summarize --bytes /srv/kept/received_dicom | cut --fields=1) && mkdir {TREE} && "
        f"mount -t tmpfs -o size=$((size * 2 + 200000)),mode=0750,uid=pipeline-monitor,gid=pipeline-monitor tmpfs {TREE} && "
        f"cp --archive --no-target-directory /srv/kept/received_dicom {TREE} && "
        f"head --bytes=$(df --block-size=1 --output=avail {TREE} | tail -n 1) /dev/zero >{TREE}/ballast || true; "
        "systemctl start pipeline-monitor.service"
    )
    # A request that was under way when the network was cut may have hung for two minutes: only then does the next study come.
    wait_for(lambda: "has no room" in host.run("pipeline-monitor status"), 300)
    host.run(f"mount -o remount,size=2g {TREE} && rm {TREE}/ballast")


def restart_the_host(host: Host) -> None:
    time.sleep(1)
    ended = play("molecule/default/reboot.yml", timeout=600)
    assert ended.returncode == 0, ended.stdout[-2000:]


FAULTS: dict[str, Callable[[Host], None]] = {
    "nothing": lambda host: None,
    "monitor killed": kill("pipeline-monitor.service"),
    "forwarder killed": kill("pipeline-forwarder.service"),
    "gateway killed": kill("orthanc@gateway.service"),
    "storage killed": kill("orthanc@storage.service"),
    "database killed": kill("postgresql@17-main.service"),
    "host restarted": restart_the_host,
    "network cut": cut_the_network,
    "disk full": fill_the_disk,
    "nothing again": lambda host: None,
}


def corrupt(host: Host, dataset: Dataset) -> int:
    """Send a dataset that breaks off in the middle of an element, and return the status."""
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate(host.address, GATEWAY[0], ae_title=GATEWAY[1])
    assert association.is_established

    def cut(event: evt.Event) -> None:
        stream = getattr(event.message, "data_set", None)
        if stream and len(stream.getbuffer()) > 1000:
            stream.truncate(900)

    association.bind(evt.EVT_DIMSE_SENT, cut)
    answer = association.send_c_store(dataset)
    if association.is_established:
        association.release()
    return int(answer.Status) if "Status" in answer else -1


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[list[Dataset]]:
    directory = tmp_path_factory.mktemp("sent")
    return [[instance.dataset for instance in ct_study(INSTANCES, directory, rows=64)] for _ in range(STUDIES)]


def test_nothing_is_lost(host: Host, sent: list[list[Dataset]], tmp_path: Path) -> None:
    modality = Modality(host.address, *GATEWAY)
    studies = list(sent)
    for name, fault in FAULTS.items():
        mine = [studies.pop(0), studies.pop(0)]
        failures: list[BaseException] = []

        def send(mine: list[list[Dataset]] = mine, failures: list[BaseException] = failures) -> None:
            try:
                for study in mine:
                    modality.send(study)
            except BaseException as error:
                failures.append(error)

        sender = threading.Thread(target=send, name=name, daemon=True)
        sender.start()
        fault(host)
        sender.join(700)
        assert not sender.is_alive() and not failures, (name, failures)
    assert not studies

    # A duplicate; another picture under the same UID; one that is broken.
    modality.send(sent[0][:10])
    changed = sent[1][5]
    changed.PixelData = bytes(reversed(changed.PixelData))
    modality.send([changed])
    (broken,) = [instance.dataset for instance in ct_study(1, tmp_path, rows=64)]
    assert corrupt(host, broken) != 0

    every = {dataset.SOPInstanceUID: dataset for study in sent for dataset in study}
    wait_for(lambda: in_tree(host) >= len(every), 240)

    def is_settled() -> bool:
        answer = host.web.get("~/pipeline/pipeline").json()
        counts = answer["counts"]
        return answer["arriving_instances"] == 0 and counts["waiting"]["studies"] == 0 and counts["extracted"]["studies"] == STUDIES

    wait_for(is_settled, 120)
    time.sleep(8)
    wait_for(is_settled, 120)
    found = received(host, tmp_path / "tree")
    assert found.keys() == every.keys()
    different = [uid for uid, dataset in every.items() if not same(found[uid], dataset)]
    assert not different
    counts = host.web.get("~/pipeline/pipeline").json()["counts"]
    whole = {"studies": STUDIES, "instances": STUDIES * INSTANCES}
    assert counts == {
        "received": whole,
        "forwarded": whole,
        "extracted": whole,
        "waiting": {"studies": 0, "instances": 0},
        "failed": {"studies": 0, "instances": 0},
    }
    kept = host.run(f"find {TREE}/.replaced -type f").split()
    assert len(kept) == 1 and changed.SOPInstanceUID in kept[0]
