"""From a C-STORE to the gateway to a file on disk, over two real Orthancs."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from datasets import KINDS, ct_study, of_kind, same
from orthanc_server import OrthancServer
from pipeline_services import MONITOR_PORT, Running, Tree, wait_for
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification


def small_study(count: int, directory: Path, **attributes: str) -> list[Dataset]:
    directory.mkdir(exist_ok=True)
    return [instance.dataset for instance in ct_study(count, directory, rows=16, **attributes)]


def arrived(tree: Tree, sent: list[Dataset]) -> bool:
    return len(tree.files) >= len({dataset.SOPInstanceUID for dataset in sent})


def check(tree: Tree, sent: list[Dataset]) -> None:
    """Every instance is in the tree once, in its place, with the dataset that was sent."""
    found = tree.datasets()
    assert found.keys() == {dataset.SOPInstanceUID for dataset in sent}
    for dataset in sent:
        assert same(found[dataset.SOPInstanceUID], dataset)
    for path in tree.files:
        dataset = pydicom.dcmread(path, specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
        assert path.parts[-3:] == (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, f"{dataset.SOPInstanceUID}.dcm")


def test_every_kind_comes_out_as_it_went_in(
    gateway: OrthancServer, forwarder: Running, monitor: Running, tree: Tree, tmp_path: Path
) -> None:
    sent = [of_kind(kind, tmp_path).dataset for kind in KINDS]
    forwarder.start()
    monitor.start()
    gateway.send(*sent)
    wait_for(lambda: arrived(tree, sent) and monitor.counts() == {"waiting": 0, "done": len(sent), "failed": 0})
    check(tree, sent)
    state = monitor.get("/pipeline")
    for what in ("received", "forwarded", "extracted"):
        assert state["counts"][what] == {"studies": len(sent), "instances": len(sent)}
    assert state["counts"]["waiting"]["studies"] == state["counts"]["failed"]["studies"] == 0
    assert not state["problems"] and state["behind_seconds"] == 0


def test_by_c_get(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    sent = [of_kind(kind, tmp_path).dataset for kind in KINDS]
    monitor.settings["RETRIEVE"] = "get"
    monitor.start()
    storage.send(*sent)
    wait_for(lambda: arrived(tree, sent))
    check(tree, sent)


def test_what_comes_late_is_added_alone(
    gateway: OrthancServer, forwarder: Running, monitor: Running, tree: Tree, tmp_path: Path
) -> None:
    sent = small_study(5, tmp_path / "sent")
    forwarder.start()
    monitor.start()
    gateway.send(*sent[:3])
    wait_for(lambda: arrived(tree, sent[:3]) and monitor.counts()["done"] == 1)
    gateway.send(*sent[3:])
    wait_for(lambda: arrived(tree, sent) and monitor.said("extracted 2 of 2"))
    check(tree, sent)
    assert forwarder.said("sent 3 instances") == forwarder.said("sent 2 instances") == 1
    assert monitor.said("extracted 3 of 3") == monitor.said("extracted 2 of 2") == 1


def test_another_version_replaces_the_file_and_keeps_the_former(
    gateway: OrthancServer, forwarder: Running, monitor: Running, tree: Tree, tmp_path: Path
) -> None:
    sent = small_study(3, tmp_path / "sent")
    forwarder.start()
    monitor.start()
    gateway.send(*sent)
    wait_for(lambda: arrived(tree, sent) and monitor.counts()["done"] == 1)
    former = pydicom.dcmread(tmp_path / "sent" / f"{sent[1].SOPInstanceUID}.dcm")
    sent[1].PixelData = bytes(reversed(sent[1].PixelData))
    gateway.send(sent[1], sent[2])
    wait_for(lambda: same(tree.datasets()[sent[1].SOPInstanceUID], sent[1]))
    wait_for(lambda: monitor.counts() == forwarder.counts() == {"waiting": 0, "done": 1, "failed": 0})
    check(tree, sent)
    (kept,) = [path for path in (tree.root / ".replaced").rglob("*") if path.is_file()]
    assert same(pydicom.dcmread(kept), former)


def test_names_from_dicom_stay_in_the_tree(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    patients = ["", "../../etc", "A/B", "A%2FB", ".hidden", "x" * 64, "Ü^Müller", "..", "A B"]
    sent = []
    for number, patient in enumerate(patients):
        (dataset,) = small_study(1, tmp_path / f"sent{number}", PatientID=patient, SpecificCharacterSet="ISO_IR 192")
        sent.append(dataset)
    monitor.start()
    storage.send(*sent)
    wait_for(lambda: arrived(tree, sent))
    check(tree, sent)
    assert len({path.parts[-4] for path in tree.files}) == len(patients)
    assert all(path.resolve().is_relative_to(tree.root) and len(path.relative_to(tree.root).parts) == 4 for path in tree.files)
    assert not [path for path in tmp_path.rglob("*.dcm") if "sent" not in str(path) and not path.is_relative_to(tree.root)]


def test_one_study_uid_of_two_patients(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    one = small_study(3, tmp_path / "sent", PatientID="ONE")
    for dataset in one:
        storage.send(dataset)
        dataset.PatientID = "TWO"
        storage.send(dataset)
    monitor.start()
    wait_for(lambda: monitor.counts() == {"waiting": 0, "done": 2, "failed": 0})
    assert sorted(path.relative_to(tree.root).parts[0] for path in tree.files) == ["ONE"] * 3 + ["TWO"] * 3


def test_a_killed_monitor_goes_on_where_it_was(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    sent = [dataset for number in range(6) for dataset in small_study(20, tmp_path / f"sent{number}")]
    monitor.start()
    for start in range(0, len(sent), 20):
        storage.send(*sent[start : start + 20])
        time.sleep(0.7)
        monitor.kill()
        monitor.start()
    wait_for(lambda: arrived(tree, sent) and monitor.counts() == {"waiting": 0, "done": 6, "failed": 0})
    check(tree, sent)


def test_a_killed_forwarder_goes_on_where_it_was(
    gateway: OrthancServer, storage: OrthancServer, forwarder: Running, tmp_path: Path
) -> None:
    sent = [dataset for number in range(6) for dataset in small_study(20, tmp_path / f"sent{number}")]
    forwarder.start()
    for start in range(0, len(sent), 20):
        gateway.send(*sent[start : start + 20])
        time.sleep(0.7)
        forwarder.kill()
        forwarder.start()
    wait_for(lambda: forwarder.counts() == {"waiting": 0, "done": 6, "failed": 0})
    assert storage.instance_count() == len(sent)


def test_a_stable_event_that_a_restart_swallows(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    sent: list[Dataset] = []
    monitor.start()
    for attempt in range(5):
        last = storage.get("/changes?last")["Last"]
        sent += (study := small_study(10, tmp_path / f"sent{attempt}"))
        storage.send(*study)
        storage.kill()
        storage.start()
        # On a slow machine it may have been stable before.
        if "StableStudy" not in {change["ChangeType"] for change in storage.get(f"/changes?since={last}&limit=1000")["Changes"]}:
            break
    else:
        raise AssertionError("Orthanc was never killed in time")
    wait_for(lambda: arrived(tree, sent))
    check(tree, sent)


def test_while_the_storage_is_away_the_gateway_keeps_all(
    gateway: OrthancServer, storage: OrthancServer, forwarder: Running, tmp_path: Path
) -> None:
    forwarder.settings["KEEP_DAYS"] = "0"
    forwarder.start()
    storage.stop()
    try:
        gateway.send(*small_study(3, tmp_path / "one"))
        gateway.send(*small_study(2, tmp_path / "two"))
        wait_for(lambda: forwarder.get("/status")["servers_away"])
        time.sleep(3)
        assert gateway.instance_count() == 5 and forwarder.counts()["waiting"] == 2
        assert forwarder.get("/status")["behind_seconds"] > 3
    finally:
        storage.start()
    wait_for(lambda: storage.instance_count() == 5 and not forwarder.get("/status")["servers_away"])
    wait_for(lambda: gateway.instance_count() == 0)


def test_what_the_storage_lost_is_sent_again_and_not_let_go(
    gateway: OrthancServer, storage: OrthancServer, forwarder: Running, tmp_path: Path
) -> None:
    forwarder.start()
    gateway.send(*small_study(4, tmp_path / "sent"))
    wait_for(lambda: forwarder.counts()["done"] == 1)
    forwarder.stop()
    storage.session.delete(f"{storage.url}/instances/{storage.get('/instances')[0]}", timeout=30)
    assert storage.instance_count() == 3
    forwarder.settings["KEEP_DAYS"] = "0"
    forwarder.start()
    wait_for(lambda: gateway.instance_count() == 0)
    assert storage.instance_count() == 4 and forwarder.said("lacks 1 instances that it had") == 1


def test_an_instance_that_cannot_be_sent_keeps_no_other_and_no_newer_version(
    gateway: OrthancServer, storage: OrthancServer, forwarder: Running, tmp_path: Path
) -> None:
    sent = small_study(6, tmp_path / "sent")
    forwarder.start()
    gateway.send(*sent[:3])
    wait_for(lambda: forwarder.counts()["done"] == 1)
    forwarder.stop()
    for dataset in sent[:3]:
        dataset.PixelData = bytes(reversed(dataset.PixelData))
    gateway.send(*sent)
    # A file that the gateway's disk has lost.
    lost = next(
        entry for entry in gateway.get("/instances?expand") if entry["MainDicomTags"]["SOPInstanceUID"] == sent[4].SOPInstanceUID
    )
    gateway.stop()
    next(gateway.directory.rglob(lost["FileUuid"])).unlink()
    gateway.start()
    forwarder.start()
    wait_for(lambda: "lacks 1 instances" in "".join(problem["reason"] for problem in forwarder.get("/status")["problems"]))
    held = {}
    for identifier in storage.get("/instances"):
        dataset = pydicom.dcmread(BytesIO(storage.session.get(f"{storage.url}/instances/{identifier}/file", timeout=30).content))
        held[dataset.SOPInstanceUID] = dataset
    assert held.keys() == {dataset.SOPInstanceUID for dataset in sent} - {sent[4].SOPInstanceUID}
    assert all(same(held[dataset.SOPInstanceUID], dataset) for dataset in sent if dataset is not sent[4])
    assert sent[4].SOPInstanceUID in forwarder.get("/status")["problems"][0]["reason"]


def test_rules_and_a_server_that_is_away_for_some(
    gateway: OrthancServer, storage: OrthancServer, forwarder: Running, tmp_path: Path
) -> None:
    forwarder.settings |= {
        "FORWARD_TO": '["nowhere"]',
        "RULES": '[{"match": {"Modality": "CT", "CallingAET": "SCAN.*"}, "to": ["storage"]}]',
    }
    forwarder.start()
    gateway.send(*small_study(2, tmp_path / "one"), calling="SCANNER1")
    gateway.send(*small_study(3, tmp_path / "two"), calling="OTHER")
    wait_for(lambda: forwarder.counts() == {"waiting": 1, "done": 1, "failed": 0} and forwarder.get("/status")["servers_away"])
    assert storage.instance_count() == 2
    assert "nowhere" in forwarder.get("/status")["problems"][0]["reason"]


def test_a_study_that_cannot_be_extracted_is_set_aside_and_brought_back(
    storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path
) -> None:
    sent = small_study(4, tmp_path / "sent")
    storage.send(*sent)
    # A file that the storage's disk has lost.
    identifier = storage.get("/instances?expand")[0]
    (stored,) = storage.directory.rglob(identifier["FileUuid"])
    content = stored.read_bytes()
    stored.unlink()
    # It keeps some in memory, too.
    storage.stop()
    storage.start()
    monitor.settings |= {"MOST_ATTEMPTS": "2", "LONGEST_WAIT": "1"}
    monitor.start()
    wait_for(lambda: monitor.counts() == {"waiting": 0, "done": 0, "failed": 1})
    assert len(tree.files) == 3
    shown = monitor.command("status")
    assert shown.returncode == 0
    assert "1 of 4 instances didn't come" in shown.stdout and sent[0].StudyInstanceUID in shown.stdout
    stored.write_bytes(content)
    assert monitor.command("retry", sent[0].StudyInstanceUID).stdout == "1 studies are tried again\n"
    wait_for(lambda: monitor.counts() == {"waiting": 0, "done": 1, "failed": 0})
    check(tree, sent)


def test_repeat_extracts_a_study_once_more(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    sent = small_study(2, tmp_path / "sent")
    monitor.start()
    storage.send(*sent)
    wait_for(lambda: monitor.counts()["done"] == 1)
    for path in tree.files:
        path.unlink()
    assert monitor.command("repeat", "1.2.3").returncode == 1
    assert monitor.command("repeat", sent[0].StudyInstanceUID).returncode == 0
    wait_for(lambda: arrived(tree, sent) and monitor.counts()["done"] == 1)
    check(tree, sent)


def test_deletion_from_the_storage_after_extraction(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    sent = small_study(3, tmp_path / "sent")
    monitor.settings["DELETE_AFTER_DAYS"] = "0"
    monitor.start()
    storage.send(*sent)
    wait_for(lambda: arrived(tree, sent) and storage.instance_count() == 0)
    check(tree, sent)


def test_nobody_else_stores_at_the_monitor(storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path) -> None:
    (dataset,) = small_study(1, tmp_path / "sent")
    monitor.start()
    for calling, is_accepted in (("ANYBODY", False), (storage.aet, True)):
        entity = AE(ae_title=calling)
        entity.add_requested_context(CTImageStorage, dataset.file_meta.TransferSyntaxUID)
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", MONITOR_PORT, ae_title="PYTHON_SCP")
        assert association.is_established == is_accepted
        if is_accepted:
            assert association.send_c_store(dataset).Status == 0x0124
            association.release()
    assert not tree.files


def test_a_second_one_of_the_same_state_or_port_says_so(monitor: Running, forwarder: Running, tmp_path: Path) -> None:
    monitor.start()
    forwarder.start()
    for service, arguments in ((monitor, ["run"]), (forwarder, [])):
        ended = service.command(*arguments)
        assert ended.returncode == 1 and "STATE_DIRECTORY" in ended.stderr and "in use" in ended.stderr
    monitor.settings |= {"STATE_DIRECTORY": str(tmp_path / "other"), "OUTPUT_DIR": str(tmp_path / "other/tree")}
    ended = monitor.command("run")
    assert ended.returncode == 1 and f"MONITOR_PORT {MONITOR_PORT}" in ended.stderr and "in use" in ended.stderr


def test_a_storage_that_lost_its_index_is_followed_anew(
    storage: OrthancServer, monitor: Running, tree: Tree, tmp_path: Path
) -> None:
    one, two = small_study(30, tmp_path / "one"), small_study(2, tmp_path / "two")
    monitor.start()
    storage.send(*one)
    wait_for(lambda: monitor.counts()["done"] == 1)
    storage.stop()
    for path in storage.directory.glob("index*"):
        path.unlink()
    storage.start()
    storage.send(*two)
    wait_for(lambda: arrived(tree, one + two))
    check(tree, one + two)
    wait_for(lambda: monitor.counts() == {"waiting": 0, "done": 1, "failed": 0})


@pytest.mark.parametrize(
    ("module", "settings", "named"),
    [
        ("pipeline_monitor", {"POLL_INTERVAL": "soon"}, "POLL_INTERVAL"),
        ("pipeline_monitor", {"STORAGE_AET": "X" * 17}, "STORAGE_AET"),
        ("pipeline_monitor", {"MONITOR_PORT": "0"}, "MONITOR_PORT"),
        ("pipeline_forwarder", {"RULES": '[{"match": {"Modality": "("}, "to": ["a"]}]'}, "RULES"),
        ("pipeline_forwarder", {"FORWARD_TO": "[]"}, "FORWARD_TO"),
    ],
)
def test_a_wrong_setting_is_named(module: str, settings: dict[str, str], named: str, tmp_path: Path) -> None:
    ended = Running(module, tmp_path, **settings).command(*(["run"] if module == "pipeline_monitor" else []))
    assert ended.returncode == 1 and named in ended.stderr and "Traceback" not in ended.stderr
