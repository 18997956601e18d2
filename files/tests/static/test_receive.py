"""What is sent to dicomwebscp is in the tree, whatever comes between."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import KINDS, ct_study, of_kind
from dimse_client import Archive
from orthanc_server import OrthancServer
from pipeline_services import wait_for
from receiver import AET, Receiver
from servers import stop


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path, "--caller", "MODALITY")
    yield made
    stop(made.process, made.log)


def test_every_kind_is_rendered_as_it_was_sent(receiver: Receiver, tmp_path: Path) -> None:
    sent = [of_kind(kind, tmp_path) for kind in KINDS]
    for instance in sent:
        receiver.send(instance)
    wait_for(lambda: all(receiver.has(instance) for instance in sent))
    assert not list((receiver.root / "received").iterdir()) and not list((receiver.root / "refused").iterdir())


def test_nothing_is_lost_when_it_is_killed(receiver: Receiver, tmp_path: Path) -> None:
    sent = ct_study(30, tmp_path, rows=64)
    receiver.send(*sent[:15])
    receiver.process.kill()
    receiver.process.wait(30)
    receiver.start()
    receiver.send(*sent[15:])
    wait_for(lambda: all(receiver.has(instance) for instance in sent))
    wait_for(lambda: not list((receiver.root / "received").iterdir()))


def test_another_content_is_refused_and_kept(receiver: Receiver, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    receiver.send(instance)
    wait_for(lambda: receiver.has(instance))
    other = of_kind("ct", tmp_path)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(other.dataset, keyword, instance.dataset[keyword].value)
    other.dataset.file_meta.MediaStorageSOPInstanceUID = instance.dataset.SOPInstanceUID
    other.dataset.PixelData = bytes(reversed(other.dataset.PixelData))
    receiver.send(other)
    wait_for(lambda: list((receiver.root / "refused").iterdir()))
    wait_for(lambda: "same UIDs and other content" in receiver.log.read_text())
    assert receiver.has(instance)


def test_nothing_is_taken_without_space(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("/data has less than 2048 MB free\n")
    receiver = Receiver(tmp_path, "--no-space-file", str(told))
    instance = of_kind("ct", tmp_path)
    archive = Archive("127.0.0.1", receiver.port, AET)
    try:
        assert archive.store(instance.dataset) == 0xA700
        assert archive.echo() == 0
        assert not list((receiver.root / "received").iterdir())
        told.unlink()
        assert archive.store(instance.dataset) == 0
        wait_for(lambda: receiver.has(instance))
    finally:
        stop(receiver.process, receiver.log)
    assert "/data has less than 2048 MB free" in receiver.log.read_text()


def test_strangers_are_rejected(receiver: Receiver) -> None:
    command = ["/usr/bin/echoscu", "-aet", "STRANGER", "-aec", "DICOMWEBSCP", "127.0.0.1", str(receiver.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode and "Calling AE Title Not Recognized" in done.stderr, done.stderr


def test_what_arrives_is_passed_on_until_it_is_taken(tmp_path: Path) -> None:
    (tmp_path / "orthanc").mkdir()
    proxy = OrthancServer(tmp_path / "orthanc", "PACS")
    proxy.kill()
    receiver = Receiver(tmp_path, "--ae", f"PACS=127.0.0.1:{proxy.dicom_port}", "--proxy-ae", "PACS")
    try:
        sent = [*ct_study(3, tmp_path, rows=32), of_kind("mr-rle", tmp_path)]
        for instance in sent:
            receiver.send(instance)
        wait_for(lambda: all(receiver.has(instance) for instance in sent))
        wait_for(lambda: "not passed on" in receiver.log.read_text())
        # What was killed meanwhile goes on.
        receiver.process.kill()
        receiver.process.wait(30)
        proxy.start()
        receiver.start()
        wait_for(lambda: proxy.instance_count() == len(sent))
        wait_for(lambda: not list((receiver.root / "relayed").iterdir()))
    finally:
        stop(receiver.process, receiver.log)
        proxy.stop()
