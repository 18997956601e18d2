"""The tree by DIMSE: what DCMTK and pynetdicom find in it and get from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Instance, ct_study, of_kind, same
from dimse_client import AET as TESTS
from dimse_client import PORT, Archive, study_of
from mkdicomweb import create
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove
from receiver import AET, Receiver
from servers import stop

KINDS = ("ct", "mr-implicit", "mr-rle", "jpeg-baseline", "sr", "us-palette", "rt-dose-multi-frame", "mr-big-endian")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    directory = tmp_path_factory.mktemp("held")
    return {kind: of_kind(kind, directory) for kind in KINDS}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    name = {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"}
    return ct_study(5, tmp_path_factory.mktemp("study"), rows=32, PatientID="QR1", StudyDate="20260203", **name)


@pytest.fixture(scope="module")
def receiver(held: dict[str, Instance], study: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    directory = tmp_path_factory.mktemp("receiver")
    done = create(directory / "tree", *(instance.path for instance in (*held.values(), *study)))
    assert done.exit_code == 0, done.output
    made = Receiver(directory, "--ae", f"{TESTS}=127.0.0.1:{PORT}", "--ae", "AWAY=127.0.0.1:9")
    yield made
    stop(made.process, made.log)
    assert not [path for path in (made.root / "incoming").iterdir() if list(path.iterdir())]


@pytest.fixture
def archive(receiver: Receiver) -> Archive:
    return Archive("127.0.0.1", receiver.port, AET)


def test_every_level_is_found_with_keys(archive: Archive, study: list[Instance]) -> None:
    uid = study[0].dataset.StudyInstanceUID
    [found] = archive.find("STUDY", PatientName="müller*", StudyDate="20260101-20261231", StudyInstanceUID="", ModalitiesInStudy="")
    assert found.StudyInstanceUID == uid and found.ModalitiesInStudy == "CT" and found.RetrieveAETitle == AET
    assert str(found.PatientName) == "Müller^Jürgen" and "PatientID" not in found
    assert archive.find("STUDY", StudyDate="19000101-19001231", StudyInstanceUID="") == []
    [series] = archive.find("SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", NumberOfSeriesRelatedInstances="")
    assert series.NumberOfSeriesRelatedInstances == len(study)
    images = archive.find(
        "IMAGE", StudyInstanceUID=uid, SeriesInstanceUID=series.SeriesInstanceUID, SOPInstanceUID="", InstanceNumber=""
    )
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5]
    [second] = archive.find("IMAGE", StudyInstanceUID=uid, InstanceNumber="2", SOPInstanceUID="")
    assert second.SOPInstanceUID == study[1].dataset.SOPInstanceUID


def test_findscu_and_a_level_that_is_none(receiver: Receiver) -> None:
    command = ["/usr/bin/findscu", "-aec", AET, "127.0.0.1", str(receiver.port)]
    patients = subprocess.run(
        [*command, "-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=QR1"], capture_output=True, timeout=60, text=True
    )
    assert "QR1" in patients.stdout + patients.stderr and patients.returncode == 0
    refused = subprocess.run([*command, "-S", "-k", "QueryRetrieveLevel=WARD", "-v"], capture_output=True, timeout=60, text=True)
    assert "DataSetDoesNotMatchSOPClass" in refused.stdout + refused.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_c_get_and_c_move_bring_what_is_held(archive: Archive, held: dict[str, Instance], kind: str) -> None:
    wanted = held[kind].dataset
    [moved] = archive.move(wanted)
    assert same(moved, wanted)
    [got] = archive.get(wanted)
    assert same(got, wanted)


def test_getscu_gets_it_without_compression(receiver: Receiver, held: dict[str, Instance], tmp_path: Path) -> None:
    wanted = held["mr-rle"].dataset
    command = ["/usr/bin/getscu", "-S", "-aec", AET, "-od", str(tmp_path), "127.0.0.1", str(receiver.port)]
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={wanted.StudyInstanceUID}"]
    subprocess.run([*command, *keys], check=True, timeout=60)
    [path] = tmp_path.iterdir()
    came = dcmread(path)
    assert came.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (came.pixel_array == wanted.pixel_array).all()


def test_c_move_to_who_is_not_known_or_away(archive: Archive, study: list[Instance]) -> None:
    model = StudyRootQueryRetrieveInformationModelMove
    for destination, status in (("NOBODY", 0xA801), ("AWAY", 0xA702)):
        with archive.association([(model, [])]) as association:
            answers = list(association.send_c_move(study_of(study[0].dataset), destination, model))
        assert answers[-1][0].Status == status


def test_a_search_that_is_cancelled_ends(receiver: Receiver) -> None:
    entity = AE(ae_title="TESTS")
    model = "1.2.840.10008.5.1.4.1.2.2.1"
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", receiver.port, ae_title=AET)
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.SOPInstanceUID = ""
    statuses = []
    for status, _ in association.send_c_find(query, model, msg_id=7):
        statuses.append(status.Status)
        association.send_c_cancel(7, query_model=model)
    assert statuses[-1] in (0xFE00, 0x0000) and len(statuses) <= 14
    association.release()
