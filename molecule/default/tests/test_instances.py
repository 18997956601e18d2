"""Two archives on one host, each with its own settings; the first one stows to the second as a DICOMweb client."""

from __future__ import annotations

from pathlib import Path

from datasets import of_kind
from dimse_client import Archive
from hosts import Host

USER = "stow:second-archive-of-the-tests"


def test_each_has_its_own_name_index_and_storage(host: Host, tmp_path: Path) -> None:
    first_system = host.orthanc(8042, "/system")
    second_system = host.orthanc(8043, "/system", USER)
    assert (first_system["DicomAet"], second_system["DicomAet"]) == ("ORTHANC", "SECOND")
    assert "PostgreSQL" in first_system["DatabaseBackendPlugin"]
    assert not second_system["DatabaseBackendPlugin"]
    assert Archive(host.address, 4243, "SECOND").store(of_kind("ct", tmp_path).dataset) == 0
    assert host.shell.file("/srv/second/index").exists
    assert host.shell.file("/srv/second").mode == 0o750


def test_second_asks_for_its_user(host: Host) -> None:
    assert host.orthanc(8043, "/system") is None


def test_first_stows_to_the_second_by_its_name(host: Host, tmp_path: Path) -> None:
    sent = of_kind("mr", tmp_path)
    assert host.archive.store(sent.dataset) == 0
    found = host.identifier("Study", StudyInstanceUID=sent.dataset.StudyInstanceUID)
    assert host.orthanc(8042, "/dicom-web/servers/second/stow", body={"Resources": [found], "Synchronous": True}) is not None
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": sent.dataset.SOPInstanceUID}}
    assert len(host.orthanc(8043, "/tools/find", USER, query)) == 1


def test_every_kind_of_remote_server_is_known(host: Host) -> None:
    """A bare URL with a user, Basic authentication, a client's certificate, HTTP headers; and a peer."""
    assert host.web.get("/servers").status_code == 404
    assert set(host.orthanc(8042, "/dicom-web/servers")) == {"second", "bare", "pki", "token"}
    told = host.orthanc(8042, "/dicom-web/servers?expand")
    assert (told["pki"]["CertificateFile"], told["token"]["Timeout"]) == ("/etc/orthanc/credentials/client.crt", 30)
    assert list(host.orthanc(8042, "/peers")) == ["second"]
    assert host.shell.file("/etc/orthanc/credentials/client.key").mode == 0o640


def test_first_sends_to_the_second_by_c_store(host: Host, tmp_path: Path) -> None:
    sent = of_kind("sr", tmp_path)
    assert host.archive.store(sent.dataset) == 0
    found = host.identifier("Study", StudyInstanceUID=sent.dataset.StudyInstanceUID)
    assert host.orthanc(8042, "/modalities/second/store", body=[found])["FailedInstancesCount"] == 0
