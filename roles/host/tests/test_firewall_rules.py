from __future__ import annotations

from firewall_rules import firewall_rules


def test_ssh_comes_first_and_names_become_services() -> None:
    ssh, dimse = firewall_rules([{"name": "nginx to the pipeline's page", "ports": [1, 2]}], [22], ["10.0.0.0/8"])
    assert ssh == {"name": "SSH", "service": "dicomweb-ssh", "ports": [22], "networks": ["10.0.0.0/8"]}
    assert (dimse["service"], dimse["networks"]) == ("dicomweb-nginx-to-the-pipeline-s-page", [])


def test_a_text_is_a_list_of_networks() -> None:
    ssh, dimse = firewall_rules([{"name": "DIMSE", "ports": [104], "from": "10.20.0.0/16, fd00::/8"}], [22], "10.0.0.0/8")
    assert (ssh["networks"], dimse["networks"]) == (["10.0.0.0/8"], ["10.20.0.0/16", "fd00::/8"])
