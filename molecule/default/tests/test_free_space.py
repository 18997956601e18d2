"""A disk that is nearly full: stores are refused, whoever sends keeps his images, and everything else works."""

from __future__ import annotations

from pathlib import Path

from datasets import of_kind
from free_space import nearly_full
from hosts import Host, play


def test_stores_are_refused_and_taken_again(host: Host, tmp_path: Path) -> None:
    instance, other = of_kind("ct", tmp_path), of_kind("mr", tmp_path)
    before = host.orthanc(8042, "/statistics")["CountInstances"]
    with nearly_full(host):
        assert host.archive.store(instance.dataset) == 0xA700
        assert host.web.stow([other.path.read_bytes()]).status_code == 507
        assert host.web.get("/studies?limit=1").status_code in (200, 204)
        assert host.archive.echo() == 0
        assert host.orthanc(8042, "/statistics")["CountInstances"] == before
        for playbook, words in (("status", "stores are refused: /var/lib has less"), ("verify", "FAILED stores are refused")):
            said = play(f"playbooks/{playbook}.yml", f"--limit={host.name},localhost").stdout
            assert words in " ".join(said.split()), said[-2000:]
    assert host.archive.store(instance.dataset) == 0
    assert host.web.stow([other.path.read_bytes()]).status_code == 200
    assert host.orthanc(8042, "/statistics")["CountInstances"] == before + 2
