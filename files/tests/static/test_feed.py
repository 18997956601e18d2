"""What an archive deletes and corrects is so in the tree that it feeds, by a real Orthanc, the forwarder and dicomwebserver."""

from __future__ import annotations

import contextlib
import copy
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import Instance, ct_study
from orthanc_server import OrthancServer
from pipeline_services import Running, wait_for
from pydicom.uid import generate_uid
from role_templates import rendered
from static_server import Server


class Fed:
    """An archive, its tree, and what feeds that; they follow each other as on a site."""

    def __init__(self, directory: Path) -> None:
        self.server = Server(directory / "tree", directory / "server.log")
        self.feed = Running("pipeline_forwarder", directory, KEEP_DAYS=-1, FOLLOW_DELETIONS="true", FORWARD_TO='["static"]')
        told = {"item": {"deletions_url": f"{self.feed.url}/deleted"}}
        script = rendered("orthanc", "tell-deletions.lua.j2", directory, told)
        servers = {"static": {"Url": f"{self.server.url}/", "HasDelete": True}}
        (directory / "archive").mkdir()
        self.archive = OrthancServer(
            directory / "archive", "ARCHIVE", DicomWeb={"Enable": True, "Servers": servers}, LuaScripts=[str(script)]
        )
        self.feed.settings["GATEWAY_URL"] = self.archive.url
        self.feed.start()

    def stop(self) -> None:
        self.feed.stop()
        self.archive.stop()
        self.server.process.terminate()
        self.server.process.wait(60)

    def send(self, *instances: Instance) -> None:
        self.archive.send(*(instance.dataset for instance in instances))

    def names(self, study: str) -> dict[str, str]:
        """Return the instances that the tree has of a study, with the patient's name of each."""
        found = self.server.get(f"/studies/{study}/metadata", "application/dicom+json")
        models = found.json() if found.ok else []
        return {model["00080018"]["Value"][0]: model["00100010"]["Value"][0]["Alphabetic"] for model in models}

    def holds(self, *instances: Instance) -> bool:
        expected = {each.dataset.SOPInstanceUID: str(each.dataset.PatientName) for each in instances}
        return self.names(instances[0].dataset.StudyInstanceUID) == expected

    def delete(self, level: str, keyword: str, uid: str) -> None:
        body = {"Level": level, "Query": {keyword: uid}}
        [found] = self.archive.session.post(f"{self.archive.url}/tools/find", json=body, timeout=60).json()
        kind = {"Study": "studies", "Series": "series", "Instance": "instances"}[level]
        self.archive.session.delete(f"{self.archive.url}/{kind}/{found}", timeout=60).raise_for_status()


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    made = Fed(tmp_path)
    yield made
    made.stop()
    assert not made.feed.said("Traceback"), made.feed.log.read_text()


def study_of_two_series(directory: Path) -> list[Instance]:
    study = ct_study(4, directory, rows=16)
    series = generate_uid()
    for instance in study[2:]:
        instance.dataset.SeriesInstanceUID = series
    return study


def moved(instance: Instance, **changed: str) -> Instance:
    """Return the instance with other attributes, under the same UIDs."""
    dataset = copy.deepcopy(instance.dataset)
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    return Instance(dataset, instance.path)


def test_each_level_is_deleted_soon(fed: Fed, tmp_path: Path) -> None:
    study, other = study_of_two_series(tmp_path), ct_study(1, tmp_path, rows=16)
    fed.send(*study, *other)
    wait_for(lambda: fed.holds(*study) and fed.holds(*other))
    fed.delete("Instance", "SOPInstanceUID", study[0].dataset.SOPInstanceUID)
    wait_for(lambda: fed.holds(*study[1:]), 20)
    fed.delete("Series", "SeriesInstanceUID", study[2].dataset.SeriesInstanceUID)
    wait_for(lambda: fed.holds(study[1]), 20)
    fed.delete("Study", "StudyInstanceUID", study[1].dataset.StudyInstanceUID)
    wait_for(lambda: not fed.names(study[1].dataset.StudyInstanceUID), 20)
    assert fed.holds(*other)
    # It may come again.
    fed.send(*study)
    wait_for(lambda: fed.holds(*study))


def test_what_is_corrected_under_its_uids_is_corrected(fed: Fed, tmp_path: Path) -> None:
    study = study_of_two_series(tmp_path)
    fed.send(*study)
    wait_for(lambda: fed.holds(*study))
    right = [moved(each, PatientName="Right^Name") for each in study]
    fed.send(right[0])
    wait_for(lambda: fed.holds(right[0], *study[1:]))
    fed.send(*right[1:])
    wait_for(lambda: fed.holds(*right))


@pytest.mark.parametrize("uid", ["1.2.3.ABC", "1.2/series/3", "*"])
def test_a_study_that_no_address_names_keeps_no_other(fed: Fed, tmp_path: Path, uid: str) -> None:
    wrong, right = ct_study(1, tmp_path, rows=16), ct_study(2, tmp_path, rows=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong[0].dataset.StudyInstanceUID = uid
        fed.send(*wrong)
    wait_for(lambda: fed.feed.said("static lacks") or fed.feed.said("can't be asked for study"))
    fed.send(*right)
    wait_for(lambda: fed.holds(*right), 30)
    fed.delete("Instance", "SOPInstanceUID", right[0].dataset.SOPInstanceUID)
    wait_for(lambda: fed.holds(right[1]), 30)
    fed.delete("Instance", "SOPInstanceUID", wrong[0].dataset.SOPInstanceUID)
    wait_for(lambda: fed.feed.counts() == {"waiting": 0, "done": 1, "failed": 0}, 30)
    assert fed.feed.get("/status")["servers_away"] == {}


def test_a_study_that_was_given_to_another_patient_stays(fed: Fed, tmp_path: Path) -> None:
    """For Orthanc it is another study, of the same UID; the wrong one is deleted after or before the right one has come."""
    for is_first in (True, False):
        study = ct_study(2, tmp_path, rows=16)
        fed.send(*study)
        wait_for(lambda study=study: fed.holds(*study))  # type: ignore[misc]
        right = [moved(each, PatientID=f"RIGHT{is_first}", PatientName="Right^Name") for each in study]
        if is_first:
            fed.delete("Study", "StudyInstanceUID", study[0].dataset.StudyInstanceUID)
        fed.send(*right)
        if not is_first:
            wait_for(lambda: fed.feed.said("static lacks 2 instances"))
            body = {
                "Level": "Study",
                "Query": {"PatientID": study[0].dataset.PatientID, "StudyInstanceUID": study[0].dataset.StudyInstanceUID},
            }
            [found] = fed.archive.session.post(f"{fed.archive.url}/tools/find", json=body, timeout=60).json()
            fed.archive.session.delete(f"{fed.archive.url}/studies/{found}", timeout=60).raise_for_status()
        wait_for(lambda right=right: fed.holds(*right))  # type: ignore[misc]


def test_what_was_deleted_while_one_of_them_was_down_is_found(fed: Fed, tmp_path: Path) -> None:
    study, other = study_of_two_series(tmp_path), ct_study(1, tmp_path, rows=16)
    fed.send(*study, *other)
    wait_for(lambda: fed.holds(*study) and fed.holds(*other))
    fed.feed.kill()
    fed.delete("Instance", "SOPInstanceUID", study[0].dataset.SOPInstanceUID)
    fed.delete("Study", "StudyInstanceUID", other[0].dataset.StudyInstanceUID)
    fed.feed.start()
    wait_for(lambda: fed.holds(*study[1:]) and not fed.names(other[0].dataset.StudyInstanceUID), 30)
    # The tree's server is away: it is deleted when that is back, whatever is killed meanwhile.
    fed.server.process.kill()
    fed.server.process.wait(60)
    fed.delete("Study", "StudyInstanceUID", study[0].dataset.StudyInstanceUID)
    wait_for(lambda: fed.feed.said("is away"))
    fed.feed.kill()
    fed.feed.start()
    fed.server.start()
    wait_for(lambda: not fed.names(study[0].dataset.StudyInstanceUID))


def test_a_journal_of_before_is_followed_on(fed: Fed, tmp_path: Path) -> None:
    """It has neither the date of what was read last nor the UIDs of what is held."""
    study, other = ct_study(2, tmp_path, rows=16), ct_study(1, tmp_path, rows=16)
    fed.send(*study, *other)
    wait_for(lambda: fed.feed.get("/status")["held_instances"] == 3)
    fed.feed.kill()
    with contextlib.closing(sqlite3.connect(tmp_path / "pipeline_forwarder/journal.sqlite")) as journal, journal:
        journal.execute("DELETE FROM note WHERE name = 'newest'")
        journal.execute("UPDATE held SET uid = '', series_uid = ''")
    fed.feed.start()
    wait_for(lambda: fed.feed.counts() == {"waiting": 0, "done": 2, "failed": 0})
    assert not fed.feed.said("has lost its index")
    fed.delete("Instance", "SOPInstanceUID", study[0].dataset.SOPInstanceUID)
    wait_for(lambda: fed.holds(study[1]), 20)
    assert fed.holds(*other)


@pytest.mark.parametrize("has_changes", [False, True])
def test_an_archive_that_lost_its_index_deletes_nothing(fed: Fed, tmp_path: Path, *, has_changes: bool) -> None:
    study, others = study_of_two_series(tmp_path), [ct_study(3, tmp_path, rows=16) for _ in range(2)]
    fed.send(*study)
    wait_for(lambda: fed.holds(*study))
    fed.feed.kill()
    fed.archive.kill()
    for path in (tmp_path / "archive").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    fed.archive.start()
    if has_changes:
        # More than was ever followed: the feed's place is one that it has again.
        fed.send(*(each for other in others for each in other))
    fed.feed.start()
    wait_for(lambda: fed.feed.said("has lost its index"))
    fed.send(*others[0], study[3])
    wait_for(lambda: fed.holds(*others[0]))
    assert fed.holds(*study)
    # From here on it is followed as before.
    fed.delete("Study", "StudyInstanceUID", others[0][0].dataset.StudyInstanceUID)
    wait_for(lambda: not fed.names(others[0][0].dataset.StudyInstanceUID), 20)
    assert fed.holds(*study)
