"""Every role on a stand-in for RHEL 9: what is RHEL's own way there, and the same DICOM as everywhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import KINDS, ct_study, of_kind, read, same
from dimse_client import Archive, Modality
from free_space import nearly_full
from hosts import LAB, PROJECT, Host, not_refused, play
from pipeline_services import wait_for
from web import DICOM, Web, parts

MIRROR = PROJECT / ".cache/el9/mirror"
SUMS = PROJECT / ".cache/el9/orthanc_sums.yml"


@pytest.fixture
def archive(host: Host) -> Archive:
    return Archive(host.address, 4243, "ORTHANC2")


def test_it_takes_the_path_of_rhel_9(host: Host) -> None:
    assert "release 9" in host.run("cat /etc/redhat-release")
    assert host.shell.run("command -v apt-get dpkg").stdout == ""
    assert host.run("python3 --version").startswith("Python 3.9.")
    packages = host.run("rpm --query --all --queryformat '%{NAME} '").split()
    wanted = {
        "postgresql-server",
        "postgresql-contrib",
        "nginx",
        "nginx-mod-http-perl",
        "python3.11",
        "python3-psycopg2",
        "firewalld",
    }
    assert wanted <= set(packages)
    assert "postgresql 15 [e]" in " ".join(host.run("dnf --quiet module list --enabled").split())


def test_ansibles_own_facts_say_rhel_9(host: Host) -> None:
    inventory = f"--inventory={PROJECT}/molecule/el9/inventory"
    asked = [
        "-m",
        "ansible.builtin.setup",
        "-a",
        "filter=ansible_distribution,ansible_distribution_major_version,ansible_os_family,ansible_pkg_mgr",
    ]
    told = subprocess.run(["ansible", inventory, host.name, *asked], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name, value in (
        ("distribution", "RedHat"),
        ("distribution_major_version", "9"),
        ("os_family", "RedHat"),
        ("pkg_mgr", "dnf"),
    ):
        assert re.search(rf"ansible_{name}\W+{value}\b", told), told


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(host: Host, archive: Archive, kind: str, tmp_path: Path) -> None:
    sent = of_kind(kind, tmp_path)
    assert archive.store(sent.dataset) == 0
    assert same(read(parts(host.web.get(sent.url, DICOM))[0][1]), sent.dataset)


def test_stores_are_refused_without_space(host: Host, archive: Archive, tmp_path: Path) -> None:
    refused = of_kind("ct", tmp_path)
    with nearly_full(host):
        assert archive.store(refused.dataset) == 0xA700
        assert host.web.stow([refused.path.read_bytes()]).status_code == 507
    assert archive.store(refused.dataset) == 0


def test_a_study_goes_through_the_pipeline_and_into_static_dicomweb(host: Host, tmp_path: Path) -> None:
    sent = [instance.dataset for instance in ct_study(5, tmp_path, rows=16)]
    Modality(host.address, 4242, "ORTHANC1").send(sent)
    study = sent[0].StudyInstanceUID
    wait_for(lambda: len(host.run(f"find /var/lib/received_dicom -path '*/{study}/*.dcm'").split()) == len(sent))
    metadata = f"~/static-dicomweb/studies/{study}/metadata"
    wait_for(lambda: host.web.get(metadata).status_code == 200)
    told = host.web.get(metadata).json()
    assert {instance["00080018"]["Value"][0] for instance in told} == {str(dataset.SOPInstanceUID) for dataset in sent}


def test_the_proxy_finds_and_fetches(host: Host, archive: Archive, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path)
    assert archive.store(sent.dataset) == 0
    proxy = Web(f"http://{host.address}:3006")
    found = proxy.get(f"~/studies?StudyInstanceUID={sent.dataset.StudyInstanceUID}").json()
    assert [study["0020000D"]["Value"] for study in found] == [[sent.dataset.StudyInstanceUID]]
    assert same(read(parts(proxy.get(f"~{sent.url}", DICOM))[0][1]), sent.dataset)


def test_postgresql_is_where_rhel_has_it_and_asks_for_scram(host: Host) -> None:
    assert host.run("cat /var/lib/pgsql/data/PG_VERSION") == "15"
    hba = host.run("grep -v '^#' /var/lib/pgsql/data/pg_hba.conf")
    assert "ident" not in hba
    assert "scram-sha-256" in hba
    assert host.run("runuser -u postgres -- psql -Atc 'show data_checksums'") == "on"
    hashes = host.run("runuser -u postgres -- psql -Atc \"select rolname from pg_authid where rolpassword like 'SCRAM-SHA-256$%'\"")
    assert set(hashes.split()) == {"orthanc", "orthanc_gateway", "orthanc_reader", "pyupsrs"}


def test_services_run_in_python_3_11(host: Host) -> None:
    for service in ("archive-dicomweb", "pyupsrs", "dicomweb-proxy", "static-dicomweb", "pipeline-monitor"):
        assert host.run(f"/opt/dicomweb-site/{service}/current/venv/bin/python --version").startswith("Python 3.11.")


def test_nginx_is_rhels_and_the_page_of_the_distribution_is_gone(host: Host) -> None:
    assert host.run("ps -o user= -C nginx --sort=pid | sort -u").split() == ["nginx", "root"]
    assert not host.shell.socket("tcp://0.0.0.0:80").is_listening


@pytest.mark.parametrize("port", [22, 2762, 2763, 4242, 4243, 9080, 9443])
def test_public_port_is_open(host: Host, port: int) -> None:
    assert host.reached_at(port)


@pytest.mark.parametrize("port", [5432, 8042, 8043, 8000, 5000])
def test_other_port_is_closed(host: Host, port: int) -> None:
    assert not host.reached_at(port)


def test_firewalld_drops_what_listens_and_isnt_named(host: Host) -> None:
    """A service that anybody starts on the host is not reached; with its port in the zone it is."""
    host.run("systemd-run --unit=stray python3 -m http.server 8765")
    try:
        wait_for(lambda: host.shell.socket("tcp://0.0.0.0:8765").is_listening)
        assert not host.reached_at(8765)
        host.run("firewall-cmd --quiet --zone=dicomweb --add-port=8765/tcp")
        assert host.reached_at(8765)
        host.run("firewall-cmd --quiet --reload")
        assert not host.reached_at(8765)
    finally:
        host.run("systemctl stop stray")


def test_selinux_is_given_what_the_site_needs(host: Host) -> None:
    """By its rules: the kernel here enforces none."""
    types = host.run("semanage port --list --noheading")
    of_http = next(line for line in types.splitlines() if line.startswith("http_port_t ") and " tcp " in line and "9443" in line)
    assert {"8043", "9080", "9443"} <= set(of_http.replace(",", " ").split())
    assert "(on   ,   on)" in host.run("semanage boolean --list | grep '^httpd_can_network_connect '")
    assert ":httpd_sys_content_t:" in host.run("matchpathcon -n /var/lib/static-dicomweb/studies")
    assert ":bin_t:" in host.run("matchpathcon -n $(readlink -f /opt/dicomweb-site/orthanc/current)/bin/Orthanc")
    host.run("cd /root && semodule --cil --extract=dicomweb_site")
    transitions = host.run("cat /root/dicomweb_site.cil")
    for domain in ("haproxy_t", "httpd_t", "postgresql_t"):
        assert f"(allow init_t {domain} (process2 (nnp_transition nosuid_transition)))" in transitions
    assert ":bin_t:" in host.run("matchpathcon -n $(readlink -f /opt/dicomweb-site/pyupsrs/current)/venv/bin/pyupsrs")


def test_a_rule_that_somebody_took_back_comes_again(host: Host) -> None:
    host.run("semanage port --delete --type http_port_t --proto tcp 9443")
    assert "9443" not in host.run("semanage port --list --noheading | grep '^http_port_t'")
    ended = play("site.yml")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "9443" in host.run("semanage port --list --noheading | grep '^http_port_t'")


def test_orthancs_binaries_are_the_pinned_ones(host: Host) -> None:
    for path, wanted in yaml.safe_load(SUMS.read_text())["orthanc_lsb_sha256"].items():
        place = f"{'bin' if path.endswith('/Orthanc') else 'plugins'}/{Path(path).name}"
        assert host.run(f"sha256sum /opt/dicomweb-site/orthanc/current/{place}").split()[0] == wanted
    assert host.orthanc(8043, "/system")["Version"] == "1.10.1"


@pytest.fixture
def damaged() -> Iterator[Path]:
    """A mirror one of whose binaries has changed, and a control node that has fetched nothing yet."""
    path = MIRROR / "orthanc-dicomweb/1.7/libOrthancDicomWeb.so"
    kept = path.read_bytes()
    cache = PROJECT / ".cache/el9/binaries"
    shutil.rmtree(cache)
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    yield path
    path.write_bytes(kept)


def test_a_binary_with_another_sum_is_refused_before_anything_changes(host: Host, damaged: Path) -> None:
    before = host.run("readlink /opt/dicomweb-site/orthanc/current")
    ended = play("site.yml")
    assert ended.returncode == 2
    assert "libOrthancDicomWeb.so has the SHA-256" in " ".join(ended.stdout.split())
    assert "changed=0" in next(line for line in ended.stdout.splitlines() if line.startswith(host.name))
    assert host.run("readlink /opt/dicomweb-site/orthanc/current") == before


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"orthanc_install": "package"}, "there is no package of Orthanc for RedHat 9.6: set it to lsb"),
        ({"orthanc_lsb_sha256": {}}, "record them once by playbooks/orthanc_sums.yml"),
        ({"orthanc_lsb_mirror": "http://127.0.0.1:9", "orthanc_lsb_cache": "/tmp/no-binaries"}, "Correct orthanc_lsb_mirror"),
        ({"postgresql_version": "16"}, "this host has a cluster of version 15"),
        ({"host_firewall_ssh_ports": [2222]}, "doesn't keep open: add it"),
    ]
    assert not_refused(cases) == []


def test_a_release_that_the_roles_dont_know_is_refused(host: Host) -> None:
    host.run("sed -i 's/^VERSION_ID=.*/VERSION_ID=\"8.10\"/' /usr/lib/os-release")
    try:
        ended = play("site.yml")
    finally:
        host.run("sed -i 's/^VERSION_ID=.*/VERSION_ID=\"9.6\"/' /usr/lib/os-release")
    assert ended.returncode == 2
    assert "runs RedHat 8.10; the roles know Debian-12" in " ".join(ended.stdout.split())
    assert "changed=0" in next(line for line in ended.stdout.splitlines() if line.startswith(host.name))


def test_status_and_verify_know_the_host(host: Host) -> None:
    told = play("playbooks/status.yml").stdout
    assert "postgresql-server" in told
    assert "firewalld.service" in told
    assert re.search(r"service +archive-dicomweb\.service +active", told) and "dicomweb  " not in told
    assert play("playbooks/verify.yml").returncode == 0


def test_reset_leaves_rhel_as_it_was(host: Host) -> None:
    ended = play("playbooks/reset.yml", "-e", f"confirm={host.name}")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert host.run("ss -Htln | grep -cv ':22 ' || true").strip() == "0"
    left = "/var/lib/orthanc /var/lib/pgsql /etc/nginx /etc/orthanc /etc/pyupsrs /opt/dicomweb-site"
    assert host.shell.run(f"ls -d {left}").stdout == ""
    assert host.run("firewall-cmd --get-default-zone") == "public"


def test_it_is_built_again_from_a_bundle_alone(host: Host, tmp_path: Path) -> None:
    """The host's repository, the mirror of Orthanc's binaries and the index of Python packages are gone by then."""
    repository, bundle = tmp_path / "repository", tmp_path / "bundle.tar"
    shutil.copytree(LAB / "roots" / host.name / "srv/el9", repository)
    sources = [{"name": "el9", "baseurl": f"file://{repository}", "options": {"gpgcheck": 0}}]
    gathered = {"platform": "RedHat-9", "bundle": str(bundle), "bundle_repositories": sources}
    ended = play("playbooks/bundle.yml", "-e", json.dumps(gathered))
    assert ended.returncode == 0, ended.stdout[-3000:]
    shutil.rmtree(repository)
    subprocess.run([PROJECT / "molecule/el9/serve_mirror.sh", "stop", PROJECT / ".cache/el9"], check=True)
    caches = {"orthanc_lsb_cache": f"{tmp_path}/binaries", "python_service_cache": f"{tmp_path}/python"}
    host.run("dnf remove --assumeyes --quiet python3.11 && mv /srv/el9 /root/ && mv /etc/yum.repos.d/el9.repo /root/")

    ended = play("site.yml", "-e", json.dumps({"bundle": str(bundle), "bundle_cache": f"{tmp_path}/opened", **caches}))
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert "dicomweb-bundle" in host.run("dnf list --installed --disablerepo='*' nginx postgresql-server python3.11")
    assert play("playbooks/verify.yml").returncode == 0
