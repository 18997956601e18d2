"""A site on each release of Ubuntu: the same DICOM as everywhere, in the versions that the roles say it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from datasets import KINDS, of_kind, read, same
from hosts import PROJECT, Host
from web import DICOM, parts


def platform(host: Host, role: str) -> dict[str, object]:
    """Return what a role says of the host's release."""
    release = f"Ubuntu-{host.run('. /etc/os-release && echo $VERSION_ID').split('.')[0]}"
    platforms = yaml.safe_load((PROJECT / f"roles/{role}/vars/main/platforms.yml").read_text())
    return dict(platforms[f"__{role}_platforms"][release])


def test_versions_are_those_that_the_roles_say(host: Host) -> None:
    assert host.run("cat /var/lib/postgresql/*/main/PG_VERSION") == platform(host, "postgresql")["version"]
    python = host.run("/opt/dicomweb-site/pyupsrs/current/venv/bin/python --version")
    assert python.startswith(f"Python {platform(host, 'python_service')['version']}.")
    versions = platform(host, "orthanc")["versions"]
    assert isinstance(versions, dict)
    assert host.orthanc(8042, "/system")["Version"] == versions.get("Orthanc", host.orthanc(8042, "/system")["Version"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(host: Host, kind: str, tmp_path: Path) -> None:
    sent = of_kind(kind, tmp_path)
    assert host.archive.store(sent.dataset) == 0
    assert same(read(parts(host.web.get(sent.url, DICOM))[0][1]), sent.dataset)


def test_only_what_the_site_serves_is_reached(host: Host) -> None:
    reached = {port for port in (22, 2762, 4242, 5432, 8000, 8042, 9080, 9443) if host.reached_at(port)}
    assert reached == {22, 2762, 4242, 9080, 9443}


def test_apparmor_refuses_the_services_nothing(host: Host) -> None:
    """Where the kernel has it: nothing of the site was denied."""
    denied = host.run("journalctl --dmesg --output=cat | grep -E 'apparmor=\"DENIED\".*(nginx|postgres|Orthanc|pyupsrs)' || true")
    assert denied == ""


def test_orthanc_counts_what_it_has(host: Host) -> None:
    assert host.orthanc(8042, "/statistics")["CountInstances"] >= len(KINDS)
