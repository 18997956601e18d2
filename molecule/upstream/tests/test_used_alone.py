"""Each role alone, by the play that its README shows.

They run after test_upstream.py, whose last test leaves a bare host: pytest takes files in the order of their names, as long as all
tests have the fixture `host`. Each play finds what those before it have built, from a directory outside the project, with a
configuration of Ansible that says where the roles are and otherwise leaves it as it comes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from datasets import Instance, of_kind
from dimse_client import Archive
from hosts import PROJECT, Host, play
from pipeline_services import wait_for
from web import Web

ROLES = [
    "preflight",
    "host",
    "postgresql",
    "orthanc",
    "pyupsrs",
    "archive_dicomweb",
    "static_dicomweb",
    "nginx",
    "haproxy",
    "pipeline_forwarder",
    "pipeline_monitor",
    "dicomweb_proxy",
    "site",
]
# Pipelining, as a site has it, saves a fifth of the time.
CONFIGURATION = f"""
[defaults]
roles_path = {PROJECT}/roles
[ssh_connection]
pipelining = True
"""
PASSWORDS = {f"vault_{name}_password": f"of-the-{name}" for name in ("database", "worklist", "index", "reader", "viewer")}


def example(role: str) -> str:
    """Return the play that the README shows, as a playbook."""
    text = (PROJECT / "roles" / role / "README.md").read_text()
    (shown,) = re.findall(r"^## Example playbook\n\n```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return f"---\n{shown}"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("role", ROLES)
def test_readme_shows_a_play_that_works(role: str, tmp_path: Path) -> None:
    playbook, configuration = tmp_path / "play.yml", tmp_path / "ansible.cfg"
    playbook.write_text(example(role))
    configuration.write_text(CONFIGURATION)
    ended = play(str(playbook), "-e", json.dumps(PASSWORDS), directory=tmp_path, configuration=configuration)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]


@pytest.fixture(scope="module")
def web(host: Host) -> Web:
    """The site by the name and the user that nginx's play gives it."""
    site = host.web
    site.session.headers["Host"] = f"{host.name}:9443"
    site.session.auth = ("reader", PASSWORDS["vault_reader_password"])
    return site


@pytest.fixture(scope="module")
def sent(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """An instance that a modality has sent to the archive, through HAProxy."""
    instance = of_kind("ct", tmp_path_factory.mktemp("sent"))
    archive = Archive(host.address, calling="VERIFY")
    assert archive.echo() == 0
    assert archive.store(instance.dataset) == 0
    return instance


def test_archive_serves_what_it_was_sent(host: Host, web: Web, sent: Instance) -> None:
    assert len(web.found("/studies", StudyInstanceUID=sent.dataset.StudyInstanceUID)) == 1
    assert web.get("/studies", auth=("reader", "wrong")).status_code == 401
    assert web.found("/workitems") == []
    [model] = host.orthanc(8050, f"{sent.url}/metadata")
    assert model["00080018"]["Value"] == [sent.dataset.SOPInstanceUID]


def test_proxy_asks_the_archive(host: Host, sent: Instance) -> None:
    proxy = Web(f"http://{host.address}:3006")
    assert proxy.get("/studies").status_code == 401
    proxy.session.auth = ("viewer", PASSWORDS["vault_viewer_password"])
    assert len(proxy.found("~/studies", StudyInstanceUID=sent.dataset.StudyInstanceUID)) == 1


def test_pipeline_brings_it_on(host: Host, web: Web, sent: Instance) -> None:
    """To the storage that the forwarder has, static DICOMweb here; and into a file by the monitor."""
    data = sent.dataset
    uids = f"{data.StudyInstanceUID}/{data.SeriesInstanceUID}/{data.SOPInstanceUID}"
    wait_for(lambda: host.shell.file(f"/var/lib/received_dicom/{data.PatientID}/{uids}.dcm").exists)
    wait_for(lambda: web.found("~/static-dicomweb/studies", StudyInstanceUID=data.StudyInstanceUID))
