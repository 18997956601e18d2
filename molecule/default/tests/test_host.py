"""What a host is after the play: its services, who reaches what, and what stays hidden."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest
import requests
from hosts import Host

OURS = ["orthanc@main", "orthanc@second", "haproxy", "nginx", "dicomweb-quickack", "dicomweb-free-space", "dicomweb-firewall"]


def postgresql(host: Host) -> str:
    return host.run("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1").strip()


@pytest.mark.parametrize("unit", OURS)
def test_service_runs_and_starts_at_boot(host: Host, unit: str) -> None:
    service = host.shell.service(unit)
    assert service.is_running, host.run(f"journalctl --no-pager -n 20 -u {unit}")
    assert service.is_enabled


def test_distributions_own_orthanc_is_off(host: Host) -> None:
    assert host.run("systemctl show -p LoadState --value orthanc").strip() == "masked"


@pytest.mark.parametrize("unit", ["orthanc@main", "haproxy", "nginx", "dicomweb-quickack", "dicomweb-free-space", "postgresql"])
def test_unit_is_hardened(host: Host, unit: str) -> None:
    name = postgresql(host) if unit == "postgresql" else f"{unit}.service"
    told = host.run(f"systemd-analyze security --no-pager {name} | tail -1")
    assert float(re.findall(r"([0-9.]+) [A-Z]", told)[-1]) <= 3.0, told


@pytest.mark.parametrize("port", [22, 2762, 4242, 4243, 9080, 9443])
def test_public_port_is_open(host: Host, port: int) -> None:
    socket.create_connection((host.address, port), timeout=30).close()


@pytest.mark.parametrize("port", [5432, 8042, 8043, 14242, 80, 111])
def test_other_port_is_closed(host: Host, port: int) -> None:
    with pytest.raises(OSError):
        socket.create_connection((host.address, port), timeout=2)


def test_postgresql_listens_on_loopback_alone(host: Host) -> None:
    assert not [line for line in host.run("ss -Htln 'sport = :5432'").splitlines() if "127.0.0.1:5432" not in line]


def test_database_asks_for_scram(host: Host) -> None:
    assert "SCRAM-SHA-256$" in host.run(
        'su postgres -c "psql -Atc \\"select rolpassword from pg_authid where rolname=\'orthanc\'\\""'
    )
    refused = host.shell.run("PGPASSWORD=wrong psql -h 127.0.0.1 -U orthanc orthanc -c 'select 1'")
    assert refused.rc == 2
    assert "password authentication failed" in refused.stderr


def test_databases_have_checksums_and_are_their_owners_alone(host: Host) -> None:
    def asked(query: str) -> str:
        return host.run(f'su postgres -c "psql -Atc \\"{query}\\""').strip()

    assert asked("show data_checksums") == "on"
    assert asked("select has_database_privilege('pyupsrs', 'orthanc', 'connect')") == "f"
    assert asked("select has_database_privilege('orthanc', 'orthanc', 'connect')") == "t"
    assert asked("show log_connections") != "off"


@pytest.mark.parametrize("unit", ["orthanc@main", "nginx", "haproxy", "pyupsrs", "postgresql"])
def test_unit_has_its_share_of_the_host(host: Host, unit: str) -> None:
    name = postgresql(host) if unit == "postgresql" else f"{unit}.service"
    told = dict(line.split("=") for line in host.run(f"systemctl show -p MemoryMax -p TasksMax -p LimitNOFILE {name}").split())
    assert told["MemoryMax"] != "infinity" and int(told["TasksMax"]) <= 2048 and int(told["LimitNOFILE"]) <= 65536


def test_routes_acknowledge_at_once(host: Host) -> None:
    for route in host.run("ip route show").splitlines():
        assert "quickack 1" in route


def test_firewall_is_a_table_of_its_own(host: Host) -> None:
    assert "policy drop" in host.run("nft list chain inet dicomweb_firewall input")


def test_secrets_are_readable_by_nobody_else(host: Host) -> None:
    password = re.findall(r'"Password": "(\w{20,})"', host.run("cat /etc/orthanc/instances/main.json"))[0]
    found = host.shell.run(f"grep -rlF {password} /etc /var/lib/orthanc /srv /var/log 2>/dev/null").stdout.split()
    assert found == ["/etc/orthanc/instances/main.json"]
    assert host.shell.file(found[0]).mode == 0o640
    assert password not in host.run("journalctl --no-pager -o cat -b")
    assert password not in host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_tls_is_1_2_or_1_3(host: Host) -> None:
    for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        try:
            with socket.create_connection((host.address, 9443), 5) as plain, context.wrap_socket(plain) as secured:
                assert works, f"{secured.version()} is accepted"
        except ssl.SSLError:
            assert not works


def test_http_2_is_spoken(host: Host) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((host.address, 9443), 5) as plain, context.wrap_socket(plain) as secured:
        assert secured.selected_alpn_protocol() == "h2"


def test_certificate_bears_the_hosts_names(host: Host, tmp_path: Path) -> None:
    pem = ssl.get_server_certificate((host.address, 9443))
    session = requests.Session()
    session.trust_env = False
    authority = tmp_path / "site.crt"
    authority.write_text(pem)
    assert session.get(f"https://{host.address}:9443/dicom-web/studies?limit=1", verify=str(authority), timeout=30).ok


def test_plain_http_serves_the_same(host: Host) -> None:
    session = requests.Session()
    session.trust_env = False
    answer = session.get(f"http://{host.address}:9080/dicom-web/studies?limit=1", timeout=30)
    assert answer.status_code in (200, 204)
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("path", ["/tools/execute-script", "/tools/shutdown", "/tools/reset", "/tools/shutdown/", "/tools/find"])
def test_orthancs_rest_is_not_there(host: Host, path: str) -> None:
    assert host.web.request("POST", f"~{path}", data="").status_code == 404
    assert host.orthanc(8042, "/system")["Version"]


def test_requests_leave_no_patient_in_the_log(host: Host) -> None:
    host.web.found("/studies", PatientName="Logged^Nowhere")
    assert "Logged" not in host.run("journalctl --no-pager -o cat -b -u nginx -u 'orthanc@*'")
