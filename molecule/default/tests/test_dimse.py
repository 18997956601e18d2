"""DIMSE with the archive: what goes in by C-STORE comes out by C-GET and C-MOVE, dataset for dataset."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from datasets import KINDS, ct_study, of_kind, same
from dimse_client import Archive
from hosts import Host
from pydicom.uid import UID
from pynetdicom.sop_class import Verification


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
