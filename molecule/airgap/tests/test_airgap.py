"""A site on a host that reaches nothing but the control node."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from datasets import KINDS, of_kind, read, same
from hosts import PROJECT, Host, play
from web import DICOM, parts

BUNDLE = PROJECT / ".cache/airgap/bundle.tar"
INSTALLED = ("postgresql-17", "orthanc", "orthanc-dicomweb", "orthanc-postgresql", "nginx-light", "nftables")


@pytest.fixture(scope="module", autouse=True)
def without_index() -> None:
    """What runs on the control node reaches no package index either."""
    os.environ.update(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_NO_CACHE_DIR="1", PIP_RETRIES="0")
    os.environ.pop("PIP_FIND_LINKS", None)
    os.environ.pop("PIP_EXTRA_INDEX_URL", None)


def build(*arguments: str) -> tuple[int, str]:
    """Run the site's play from the bundle, and return how it ended and what it said, in one line."""
    ended = play("site.yml", "-e", f"bundle={BUNDLE}", *arguments)
    return ended.returncode, " ".join(ended.stdout.split())


def unchanged(said: str, host: Host) -> bool:
    return f"{host.name} : ok=" in said and "changed=0" in said.partition(f"{host.name} : ok=")[2][:40]


def test_there_is_no_way_out_and_no_name_server(host: Host) -> None:
    assert host.run("ip route show default") == ""
    assert host.shell.run("test -s /etc/resolv.conf").rc != 0
    assert (
        host.shell.run("apt-get update 2>&1 | grep -c -E 'Could not resolve|Temporary failure|Network is unreachable'").stdout
        != "0\n"
    )


@pytest.mark.parametrize("package", INSTALLED)
def test_packages_come_from_the_bundle(host: Host, package: str) -> None:
    policy = host.run(f"APT_CONFIG=/etc/apt/dicomweb-bundle.conf apt-cache policy {package}")
    installed = next(line for line in policy.splitlines() if line.startswith(" ***")).split()[1]
    assert f"{installed}" in policy
    assert "file:/var/lib/dicomweb-bundle/current/repository" in policy


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(host: Host, kind: str, tmp_path: Path) -> None:
    sent = of_kind(kind, tmp_path)
    assert host.archive.store(sent.dataset) == 0
    assert same(read(parts(host.web.get(sent.url, DICOM))[0][1]), sent.dataset)


def test_the_services_are_built_without_an_index(host: Host, tmp_path: Path) -> None:
    """What the control node has gathered before is out of sight: environments are made anew, from the bundle's wheels."""
    host.run("rm -rf /opt/dicomweb-site/pyupsrs")
    status, said = build("-e", f"python_service_cache={tmp_path}")
    assert status == 0, said[-2000:]
    assert play("playbooks/verify.yml").returncode == 0


def test_a_repository_that_was_changed_on_the_host_is_refused(host: Host) -> None:
    """Its index is signed: apt takes none that somebody has rewritten."""
    index = "/var/lib/dicomweb-bundle/current/repository/Packages"
    host.run(f"cp {index} /root/Packages && sed -i '0,/^SHA256: ./s//SHA256: 0/' {index}")
    host.run("rm -rf /var/lib/dicomweb-bundle-lists/*")
    try:
        refused = host.shell.run("APT_CONFIG=/etc/apt/dicomweb-bundle.conf apt-get update")
        assert refused.rc != 0, refused.stdout + refused.stderr
        assert "Hash Sum mismatch" in refused.stderr or "unexpected size" in refused.stderr
    finally:
        host.run(f"cp /root/Packages {index}")


def damaged(tmp_path: Path, name: str, content: bytes | None) -> Path:
    """Return a copy of the bundle in which one file has another content, or is missing."""
    target = tmp_path / f"without-{Path(name).name}.tar"
    with tarfile.open(BUNDLE) as source, tarfile.open(target, "w") as tar:
        for entry in source:
            if entry.name == name and content is None:
                continue
            data = source.extractfile(entry)
            if entry.name == name and content is not None:
                (tmp_path / "content").write_bytes(content)
                tar.add(tmp_path / "content", name)
            else:
                tar.addfile(entry, data)
    return target


def test_damaged_bundles_are_refused_before_anything_changes(host: Host, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    with BUNDLE.open("rb") as whole, cut.open("wb") as part:
        part.write(whole.read(BUNDLE.stat().st_size // 2))
    with tarfile.open(BUNDLE) as tar:
        deb = next(name for name in tar.getnames() if name.endswith(".deb"))
    for bundle, message in (
        (cut, "it can't be unpacked"),
        (damaged(tmp_path, "repository.asc", b"another key"), "repository.asc has the SHA-256"),
        (damaged(tmp_path, deb, None), f"{deb} is missing, which its manifest names"),
        (tmp_path / "absent.tar", "there is no such file"),
    ):
        status, said = build("-e", f"bundle={bundle}", "-e", f"bundle_cache={tmp_path}/cache")
        assert status == 2
        assert message in said
        assert f"{host.name} : ok=" not in said, "a host was reached"


def test_another_sum_than_the_one_that_was_told_is_refused() -> None:
    status, said = build("-e", f"bundle_sha256={'0' * 64}")
    assert status == 2
    assert f"bundle_sha256 says {'0' * 64}" in said


def test_a_bundle_for_another_platform_is_refused_before_anything_changes(host: Host, tmp_path: Path) -> None:
    with tarfile.open(BUNDLE) as tar:
        stream = tar.extractfile("manifest.json")
        assert stream
        manifest = json.load(stream)
    manifest["platform"] = "RedHat-9"
    other = damaged(tmp_path, "manifest.json", json.dumps(manifest).encode())
    status, said = build("-e", f"bundle={other}")
    assert status == 2
    assert f"is for RedHat-9 on x86_64, and {host.name} runs Debian-13 on x86_64" in said
    assert unchanged(said, host)


def test_the_list_of_components_is_cyclonedx_and_names_what_is_installed(host: Host) -> None:
    with tarfile.open(BUNDLE) as tar:
        stream = tar.extractfile("sbom.cdx.json")
        assert stream
        listed = {one["name"]: one["version"] for one in json.load(stream)["components"]}
    for package in INSTALLED:
        assert host.run(f"dpkg-query --show --showformat='${{Version}}' {package}") == listed[package]
    assert {"starlette", "psycopg", "ansible-core"} <= set(listed)
