from __future__ import annotations

from networks import not_networks
from selinux_rules import missing_rules, module_of, port_types
from ufw_rules import present_rules, wanted_rules

LISTING = """\
http_port_t                    tcp      9443
http_port_t                    tcp      80, 81, 443, 488, 8008, 8009, 8443, 9000
ocsp_port_t                    tcp      9080
ephemeral_port_t               tcp      32768-60999
http_port_t                    udp      80
"""


def test_a_port_of_another_type_is_modified_and_one_of_none_is_added() -> None:
    wanted = {"ports": [{"port": port, "type": "http_port_t"} for port in (80, 8042, 9080, 9443)], "contexts": [], "booleans": []}
    assert missing_rules(wanted, port_types(LISTING), "", "") == [
        "port -a -t http_port_t -p tcp 8042",
        "port -m -t http_port_t -p tcp 9080",
    ]


def test_a_local_change_of_a_port_wins() -> None:
    assert port_types("http_port_t tcp 9080\n" + LISTING)[9080] == "http_port_t"


def test_contexts_and_booleans_that_are_there_are_left() -> None:
    wanted = {
        "ports": [],
        "contexts": [{"path": "/srv/a.b", "type": "httpd_sys_content_t"}],
        "booleans": ["httpd_can_network_connect"],
    }
    off = "httpd_can_network_connect      (off  ,  off)  Allow it\n"
    assert missing_rules(wanted, {}, "", off) == [
        r"fcontext -a -f a -t httpd_sys_content_t '/srv/a\.b(/.*)?'",
        "boolean -m --on httpd_can_network_connect",
    ]
    assert missing_rules({**wanted, "contexts": [], "booleans": ["no_such_boolean"]}, {}, "", off) == []
    there = r"/srv/a\.b(/.*)?    all files    system_u:object_r:httpd_sys_content_t:s0"
    assert missing_rules(wanted, {}, there, off.replace("off)", "on)")) == []
    assert missing_rules(wanted, {}, there.replace("httpd_sys", "user"), off.replace("off)", "on)")) == [
        r"fcontext -m -f a -t httpd_sys_content_t '/srv/a\.b(/.*)?'"
    ]


def test_the_module_is_the_same_in_any_order() -> None:
    assert module_of(["postgresql_t", "httpd_t"]) == module_of(["httpd_t", "postgresql_t"])
    assert module_of([]) == ""


def test_rules_of_ufw_are_as_it_shows_them() -> None:
    dimse = {"name": "DIMSE", "ports": [4242], "networks": ["10.0.0.0/8", "fd00::/8"]}
    rules = [{"name": "DICOMweb", "ports": [9080, 9443]}, dimse]
    lines = wanted_rules(rules)
    assert lines == [
        "allow 9080,9443/tcp comment 'dicomweb: DICOMweb'",
        "allow from 10.0.0.0/8 to any port 4242 proto tcp comment 'dicomweb: DIMSE'",
        "allow from fd00::/8 to any port 4242 proto tcp comment 'dicomweb: DIMSE'",
    ]
    others = "Added user rules (see 'ufw status' for running firewall):\nufw allow 22/tcp\n"
    shown = others + "".join(f"ufw {line}\n" for line in lines)
    assert present_rules(shown) == lines


def test_what_is_no_network_is_found() -> None:
    assert not_networks(["10.0.0.0/8", "10.77.0.1", "10.77.0.1/24", "fd00::/8", "::1"]) == []
    assert not_networks(["10.0.0.0/99", "dicom-web", "", "fd00::/200"]) == ["10.0.0.0/99", "dicom-web", "", "fd00::/200"]
