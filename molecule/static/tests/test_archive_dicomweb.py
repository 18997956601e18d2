"""The archive's DICOMweb by the site's own service, through nginx: what a modality has sent is found, read, and deleted."""

from __future__ import annotations

import gzip
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import KINDS, Instance, ct_study, of_kind, read, same
from dicomweb_client.api import DICOMwebClient
from dimse_client import Modality
from hosts import Host
from web import DICOM, JSON, parts


@pytest.fixture(scope="module")
def kinds(host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    """An instance of each kind that a modality has sent, each a study of its own."""
    directory = tmp_path_factory.mktemp("kinds")
    sent = {kind: of_kind(kind, directory) for kind in KINDS}
    modality = Modality(host.address, 4242, "ORTHANC")
    for instance in sent.values():
        modality.send([instance.dataset])
    return sent


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sent_is_found_and_comes_as_it_is(host: Host, kinds: dict[str, Instance], kind: str) -> None:
    data = kinds[kind].dataset
    [found] = host.web.found("/instances", SOPInstanceUID=data.SOPInstanceUID)
    assert found["0020000D"]["Value"] == [data.StudyInstanceUID]
    assert found["00081190"]["Value"] == [host.web.url(kinds[kind].url)]
    answer = host.web.get(kinds[kind].url, DICOM)
    assert answer.status_code == 200, answer.text
    assert same(read(parts(answer)[0][1]), data)
    [model] = host.web.found(f"{kinds[kind].url}/metadata")
    assert model["00080016"]["Value"] == [data.SOPClassUID]
    for attribute in model.values():
        if "BulkDataURI" in attribute:
            assert host.web.session.get(attribute["BulkDataURI"], timeout=60).status_code == 200


def test_searches_are_as_they_were_asked(host: Host, tmp_path: Path) -> None:
    """Orthanc's plugin, and nginx before it, make wildcards of what isn't ASCII, of blanks and of separators."""
    people = {"Wang^XiaoDong=王^小东": "Ä+1 &x", "Wang^XiaoDong=李^小东": "Ö+1 &x"}
    order = uuid.uuid4().hex[:16]
    sent = [
        ct_study(1, tmp_path, 16, SpecificCharacterSet="ISO_IR 192", AccessionNumber=order, PatientName=name, PatientID=identifier)[
            0
        ]
        for name, identifier in people.items()
    ]
    Modality(host.address, 4242, "ORTHANC").send([instance.dataset for instance in sent])
    for key, value in (("PatientName", "王^小东"), ("PatientName", "=王*"), ("PatientID", "Ä+1 &x"), ("PatientID", "Ä*")):
        [found] = host.web.found("/studies", AccessionNumber=order, **{key: value})
        assert found["0020000D"]["Value"] == [sent[0].dataset.StudyInstanceUID]
    assert host.web.get("/studies?limit=-1").status_code == 400
    everything = host.web.found("/studies")
    assert host.web.found("/studies", offset="1") == everything[1:]


def test_metadata_are_compressed_for_who_takes_it(host: Host, tmp_path: Path) -> None:
    study = ct_study(40, tmp_path, 16)
    assert host.web.stow(instance.path.read_bytes() for instance in study).status_code == 200
    uid = study[0].dataset.StudyInstanceUID
    for path, times in ((f"/studies/{uid}/metadata", 20), (f"/studies/{uid}/instances", 10), ("/instances", 2)):
        plain, packed = (
            host.web.session.get(
                host.web.url(path), headers={"Accept": JSON, "Accept-Encoding": how}, stream=True, timeout=60
            ).raw.read()
            for how in ("identity", "gzip")
        )
        assert gzip.decompress(packed) == plain
        assert len(packed) < len(plain) / times


def test_a_client_that_nobody_here_wrote(host: Host, kinds: dict[str, Instance]) -> None:
    client = DICOMwebClient(host.web.url(""), session=host.web.session)
    for kind in ("ct", "mr-jpeg-2000", "rt-dose-multi-frame"):
        data = kinds[kind].dataset
        uids = (data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID)
        assert len(client.retrieve_instance_frames(*uids, frame_numbers=[1])) == 1
        assert client.retrieve_instance_rendered(*uids)
        assert same(client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),)), data)


def test_its_database_user_can_read_and_nothing_else(host: Host) -> None:
    uri = host.run('grep -o "^ARCHIVE_DICOMWEB_DATABASE_URI=.*" /etc/archive-dicomweb/archive-dicomweb.env').partition("=")[2]
    asking = f"psql -At {uri.strip()} -c"
    assert int(host.run(f"{asking} 'SELECT count(*) FROM resources'")) > 0
    for statement in ("DELETE FROM resources", "CREATE TABLE mine ()", "UPDATE metadata SET value = value"):
        assert "permission denied" in host.shell.run(f"{asking} '{statement}'").stderr
    assert host.shell.run(f"{asking.replace('orthanc', 'postgres', 1)} 'SELECT 1'").rc != 0


def test_a_restart_refuses_nobody(host: Host, kinds: dict[str, Instance]) -> None:
    url = kinds["ct"].url

    def ask(_: int) -> int:
        return host.web.get(f"{url}/metadata").status_code

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(ask, range(60))
        host.run("systemctl restart archive-dicomweb")
        assert set(answers) == {200}


def test_what_is_deleted_is_gone_for_everybody(host: Host, tmp_path: Path) -> None:
    study = ct_study(2, tmp_path, 16)
    assert host.web.stow(instance.path.read_bytes() for instance in study).status_code == 200
    uid = study[0].dataset.StudyInstanceUID
    assert host.web.request("DELETE", f"/studies/{uid}").status_code == 204
    assert host.web.get(f"/studies/{uid}", DICOM).status_code == 404
    assert not host.web.found("/studies", StudyInstanceUID=uid)
