"""DIMSE with the archive: what goes in by C-STORE comes out by C-GET and C-MOVE, dataset for dataset."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import socket
import subprocess
import uuid
from pathlib import Path

import pytest
from datasets import KINDS, ct_study, of_kind, read, same
from dimse_client import Archive
from hosts import CONTROL_NODE, Host
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification
from web import DICOM, parts


def test_echo(host: Host) -> None:
    assert host.archive.echo() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(host: Host, kind: str, tmp_path: Path) -> None:
    sent = of_kind(kind, tmp_path).dataset
    assert host.archive.store(sent) == 0
    for received in (host.archive.get(sent), host.archive.move(sent)):
        assert len(received) == 1
        assert received[0].file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert same(received[0], sent)


def test_find_at_every_level(host: Host, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path).dataset
    sent.PatientName = "Level^Every"
    assert host.archive.store(sent) == 0
    study, series, instance = sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID
    keys: dict[str, dict[str, str]] = {
        "STUDY": {"PatientName": "level^*", "StudyInstanceUID": study, "ModalitiesInStudy": ""},
        "SERIES": {"StudyInstanceUID": study, "SeriesInstanceUID": series, "Modality": "CT"},
        "IMAGE": {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance},
    }
    for level, wanted in keys.items():
        assert len(host.archive.find(level, **wanted)) == 1, level
    assert not host.archive.find("STUDY", StudyInstanceUID=study, PatientName="Nobody")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Müller^Änne"),
        ("ISO_IR 144", "Гусева^Анна"),
    ],
)
def test_names_of_any_script_are_told_as_they_were_sent(
    host: Host, tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    sent = of_kind("ct", tmp_path).dataset
    sent.SpecificCharacterSet, sent.PatientName = character_set, name
    assert host.archive.store(sent) == 0
    [found] = host.archive.find("STUDY", StudyInstanceUID=sent.StudyInstanceUID, PatientName="")
    assert str(found.PatientName) == name


def test_a_private_class_is_stored_as_others_are(host: Host, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path).dataset
    sent.SOPClassUID = sent.file_meta.MediaStorageSOPClassUID = UID("1.3.12.2.1107.5.9.1")
    assert host.archive.store(sent) == 0
    [found] = host.web.found("/instances", SOPInstanceUID=sent.SOPInstanceUID)
    assert found["00080016"]["Value"] == [sent.SOPClassUID]
    url = f"/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
    assert same(read(parts(host.web.get(url, DICOM))[0][1]), sent)


def test_the_worklist_is_what_lies_in_a_directory(host: Host) -> None:
    """A RIS's interface writes files; modalities ask by C-FIND (PS3.4 K)."""
    step, item = Dataset(), Dataset()
    step.ScheduledStationAETitle, step.Modality = "CT1", "CT"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20261127", "0800"
    item.SpecificCharacterSet, item.PatientName, item.PatientID = "ISO_IR 192", "Yamada^Tarou=山田^太郎", "W1"
    item.AccessionNumber, item.ScheduledProcedureStepSequence = uuid.uuid4().hex[:16], [step]
    written = io.BytesIO()
    dcmwrite(written, with_file_meta(item), enforce_file_format=True)
    host.run(
        f"cd /srv/worklist && echo {base64.b64encode(written.getvalue()).decode()} | base64 -d >new.tmp && chgrp orthanc new.tmp"
        " && chmod 0640 new.tmp && mv new.tmp new.wl"
    )
    for station, count in (("CT1", 1), ("MR1", 0)):
        query, asked = Dataset(), Dataset()
        asked.ScheduledStationAETitle = station
        query.PatientName, query.AccessionNumber, query.ScheduledProcedureStepSequence = "", item.AccessionNumber, [asked]
        with host.archive.association([(ModalityWorklistInformationFind, [])]) as association:
            answers = list(association.send_c_find(query, ModalityWorklistInformationFind))
        assert answers[-1][0].Status == 0
        found = [answer for _, answer in answers if answer]
        assert [str(answer.PatientName) for answer in found] == [str(item.PatientName)] * count


def with_file_meta(dataset: Dataset) -> Dataset:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ModalityWorklistInformationFind
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return dataset


def test_who_isnt_named_may_store_but_not_find(host: Host, tmp_path: Path) -> None:
    stranger = Archive(host.address, calling="STRANGER")
    assert stranger.echo() == 0
    assert stranger.store(of_kind("ct", tmp_path).dataset) == 0
    with pytest.raises(AssertionError, match="STRANGER gets an abort"):
        stranger.find("STUDY", PatientID="*")


def test_unknown_transfer_syntax_is_rejected_and_the_rest_stays(host: Host, tmp_path: Path) -> None:
    before, sent = of_kind("ct", tmp_path).dataset, of_kind("mr", tmp_path).dataset
    assert host.archive.store(before) == 0
    contexts = [(Verification, []), (sent.SOPClassUID, [UID("1.2.3.4.5")])]
    with host.archive.association(contexts) as association:
        # 3 or 4: abstract syntax, or transfer syntaxes not supported (PS3.8 9.3.3.2).
        assert [context.result in (3, 4) for context in association.rejected_contexts] == [True]
        with pytest.raises(ValueError, match="No presentation context"):
            association.send_c_store(sent)
    assert same(host.archive.get(before)[0], before)


def test_over_tls(host: Host, tmp_path: Path) -> None:
    """PS3.15 B.12, with no certificate of the modality's own."""
    sent = of_kind("ct", tmp_path)
    secure = ["+tla", "-ic", "-aet", "SECURE", "-aec", "ORTHANC", host.address, "2762"]
    dcmtk("echoscu", *secure)
    dcmtk("storescu", *secure, str(sent.path))
    assert same(host.archive.get(sent.dataset)[0], sent.dataset)


def test_idle_and_half_sent_connections_hold_nobody_up(host: Host) -> None:
    """Orthanc takes one connection after the other, and waits for each to ask."""
    with contextlib.ExitStack() as held:
        for number in range(20):
            connection = held.enter_context(socket.create_connection((host.address, 4242), 5))
            connection.sendall(b"\x01\x00\x00\x00\x00\xcd\x00\x01"[: number % 8])
        dcmtk("echoscu", "-to", "5", "-ta", "5", "-aec", "ORTHANC", host.address, "4242")


def test_an_association_is_logged_with_who_called(host: Host, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path)
    dcmtk("storescu", "-aet", "LOGGED BY NAME", "-aec", "ORTHANC", host.address, "4242", str(sent.path))
    (line,) = host.run("journalctl --no-pager --output=cat --unit=haproxy | grep 'calling=\"LOGGED BY NAME\"'").splitlines()
    assert f"from {CONTROL_NODE}:" in line and 'called="ORTHANC"' in line
    (received,) = re.findall(r" received=(\d+) ", line)
    assert int(received) > len(sent.dataset.PixelData)


def test_dcmtk_stores_finds_and_fetches(host: Host, tmp_path: Path) -> None:
    study = ct_study(5, tmp_path, rows=64)
    peer = ["-aet", "TESTS", "-aec", "ORTHANC", host.address, "4242"]
    uid = f"StudyInstanceUID={study[0].dataset.StudyInstanceUID}"
    dcmtk("echoscu", *peer)
    dcmtk("storescu", *peer, *[str(instance.path) for instance in study])
    found = dcmtk("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", uid, "-k", "NumberOfStudyRelatedInstances", *peer)
    assert "(0020,1208) IS [5" in found
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    dcmtk("getscu", "-S", "-od", str(fetched), "-k", "QueryRetrieveLevel=STUDY", "-k", uid, *peer)
    assert len(list(fetched.iterdir())) == 5


def dcmtk(program: str, *arguments: str) -> str:
    # By its path: pynetdicom brings programs of the same names.
    ended = subprocess.run([f"/usr/bin/{program}", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr
