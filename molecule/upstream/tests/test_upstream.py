"""Orthanc from a signed repository of its own instead of the distribution's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from datasets import of_kind, read, same
from hosts import Host, play
from web import DICOM, parts


@pytest.mark.parametrize("package", ["orthanc", "orthanc-dicomweb", "orthanc-postgresql"])
def test_package_comes_from_the_mirror_and_stays_so(host: Host, package: str) -> None:
    policy = host.run(f"apt-cache policy {package}")
    installed = next(line for line in policy.splitlines() if "Installed:" in line)
    assert installed.endswith("+mirror1")
    assert "+mirror1 1001\n" in policy


def test_what_is_stored_comes_back(host: Host, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path)
    assert host.archive.store(sent.dataset) == 0
    assert same(read(parts(host.web.get(sent.url, DICOM))[0][1]), sent.dataset)


def test_distributions_package_is_replaced(host: Host) -> None:
    """A site that was built from the distribution and is switched over."""
    older = host.run("apt-cache madison orthanc-dicomweb | grep -v mirror1 | cut -d'|' -f2").strip()
    host.run(f"apt-get install -q -y --allow-downgrades orthanc-dicomweb={older}")
    assert "+mirror1" not in host.run("dpkg-query -W orthanc-dicomweb")
    ended = play("site.yml")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "+mirror1" in host.run("dpkg-query -W orthanc-dicomweb")


OTHER_CONFIGURATION = """
[defaults]
any_errors_fatal = False
strategy = free
gathering = smart
forks = 2
inject_facts_as_vars = True
precedence = all_plugins_play, groups_plugins_play, all_inventory, groups_inventory, all_plugins_inventory, groups_plugins_inventory
[inventory]
host_pattern_mismatch = error
"""


@pytest.mark.usefixtures("host")
def test_what_a_site_becomes_depends_on_no_configuration_of_ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a directory that everybody may write, where Ansible reads none; with a company's; by a user who has built nothing."""
    secrets = Path.home() / ".config/dicomweb-site/molecule-upstream"
    other = tmp_path / "ansible.cfg"
    other.write_text(OTHER_CONFIGURATION)
    tmp_path.chmod(0o777)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for configuration in (None, other):
        refused = play("site.yml", directory=tmp_path, configuration=configuration)
        assert refused.returncode == 2 and f"there is no {tmp_path}/home/.config" in " ".join(refused.stdout.split())
        assert not list((tmp_path / "home/.config").rglob("*"))
        same = play(
            "site.yml", "--check", "-e", f"site_secrets_directory={secrets}", directory=tmp_path, configuration=configuration
        )
        assert same.returncode == 0, same.stdout[-2000:]
        assert set(re.findall(r"changed=(\d+)", same.stdout)) == {"0"}, same.stdout[-2000:]


def test_repository_whose_signature_is_broken_is_refused(host: Host) -> None:
    """Nothing of it is installed, and the archive that was there goes on."""
    before = host.run("dpkg-query -W 'orthanc*'")
    release = "/srv/mirror/debian/dists/trixie/InRelease"
    host.run(f"cp {release} /root/InRelease && sed -i 's/^Components: main/Components: evil/' {release}")
    host.run("rm -rf /var/lib/apt/lists/127.0.0.1*")
    try:
        ended = play("site.yml")
        assert ended.returncode == 2
        assert "127.0.0.1:8900" in ended.stdout
    finally:
        host.run(f"cp /root/InRelease {release}")
    assert host.run("dpkg-query -W 'orthanc*'") == before
    assert host.archive.echo() == 0
    assert play("site.yml").returncode == 0


def test_reset_removes_services_and_data(host: Host) -> None:
    ended = play("playbooks/reset.yml", "-e", f"confirm={host.name}")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert host.run("ss -Htln | grep -cv ':22 \\|:8900 ' || true").strip() == "0"
    left = "/var/lib/orthanc /var/lib/postgresql /etc/nginx /etc/orthanc /etc/pyupsrs /opt/dicomweb-site"
    assert host.shell.run(f"ls -d {left}").stdout == ""
    assert "dicomweb_firewall" not in host.run("nft list tables")
