"""The proxy as it is installed: what the archive has comes out, and who may not ask gets nothing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import shown
from datasets import Instance, ct_study, of_kind, read, same
from dicomweb_client.api import DICOMwebClient
from dimse_client import Modality
from hosts import Host, not_refused, play
from pipeline_services import wait_for
from web import Web

HTTP, HTTPS = 3006, 3443
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
VIEWER_PORT, OTHER_PORT = 8123, 8124


@pytest.fixture
def sent(host: Host, tmp_path: Path) -> list[Instance]:
    """Objects of some kinds, and a study, that the archive has by DIMSE."""
    made = [of_kind(kind, tmp_path) for kind in ("mr-rle", "jpeg-baseline", "sr", "us-palette", "pdf")]
    study = ct_study(20, tmp_path, PatientName="Through^The Proxy")
    modality = Modality(host.address, 4242, "ORTHANC")
    # Each over an association of its own, in which it can be sent as it is.
    for group in [[instance] for instance in made] + [study]:
        modality.send([instance.dataset for instance in group])
    return made + study


def everything_comes(host: Host, sent: list[Instance]) -> None:
    client = DICOMwebClient(f"http://{host.address}:{HTTP}")
    for study in {instance.dataset.StudyInstanceUID for instance in sent}:
        answers = client.retrieve_study(study, media_types=(("application/dicom", "*"),))
        came = {dataset.SOPInstanceUID: dataset for dataset in answers}
        mine = [instance.dataset for instance in sent if instance.dataset.StudyInstanceUID == study]
        assert len(came) == len(mine)
        assert all(same(came[dataset.SOPInstanceUID], dataset) for dataset in mine)
        assert len(client.search_for_instances(study)) == len(mine)
    ct = sent[-1].dataset
    [frame] = client.retrieve_instance_frames(ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID, [1])
    assert frame == ct.PixelData
    assert client.search_for_studies(search_filters={"PatientName": "Through*"})


@pytest.fixture
def host(by_name: dict[str, Host]) -> Host:
    """Return the host that has the archive, too."""
    return by_name["proxy13"]


def test_what_the_archive_has_comes_by_c_move(host: Host, sent: list[Instance]) -> None:
    everything_comes(host, sent)
    assert "fetched from ORTHANC" in host.run("journalctl --unit=dicomweb-proxy --output=cat | cat")


def test_what_another_host_has_comes_by_c_get(by_name: dict[str, Host], sent: list[Instance]) -> None:
    alone = by_name["proxy12"]
    everything_comes(alone, sent)
    assert "fetched from ORTHANC" in alone.run("journalctl --unit=dicomweb-proxy --output=cat | cat")
    assert not alone.run("ls --directory /etc/orthanc /etc/nginx 2>/dev/null || true")


def test_the_service_is_confined_and_says_how_it_is(host: Host) -> None:
    level = host.run("systemd-analyze security --no-pager dicomweb-proxy.service | tail -n 1")
    assert float(re.findall(r"\d+\.\d", level)[0]) < 2.5
    assert host.run("stat --format='%a %U %G' /etc/dicomweb-proxy/config.jsonc").split() == ["640", "root", "dicomweb-proxy"]
    web = Web(f"http://{host.address}:{HTTP}")
    assert web.get("~/health").json() == {"status": "ok", "problems": []}
    assert web.get("~/ping").text == "pong\n"
    assert 'dicomweb_proxy_peer_up{peer="ORTHANC"} 1.0' in web.get("~/metrics").text
    said = host.run("journalctl --unit=dicomweb-proxy --output=cat | cat")
    assert "Through" not in said and "1CT1" not in said


def test_it_comes_back_by_itself(host: Host, sent: list[Instance]) -> None:
    host.run("systemctl kill --signal=KILL dicomweb-proxy; sleep 5; systemctl is-active dicomweb-proxy")
    study = sent[0].url.partition("/series")[0]
    assert Web(f"http://{host.address}:{HTTP}").get(f"~{study}", AS_STORED).ok


PAGE = """<!doctype html><title>viewer</title><p id=said>waiting</p><script>
fetch('http://{address}:{port}/studies?limit=1', {{headers: {{Accept: 'application/dicom+json'}}}})
  .then(answer => answer.json()).then(rows => 'read ' + rows.length + ' studies', error => 'refused ' + error.name)
  .then(text => document.getElementById('said').textContent = text)
</script>"""


@pytest.fixture
def pages(host: Host) -> Iterator[None]:
    """A viewer on the origin that is allowed, and the same page on another."""
    content = PAGE.format(address=host.address, port=HTTP).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", port), Page) for port in (VIEWER_PORT, OTHER_PORT)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_browser_reads_it_from_the_allowed_origin_alone(host: Host, sent: list[Instance], pages: None, tmp_path: Path) -> None:
    assert "read 1 studies" in shown(f"http://127.0.0.1:{VIEWER_PORT}/", tmp_path / "one")
    assert "refused TypeError" in shown(f"http://127.0.0.1:{OTHER_PORT}/", tmp_path / "other")


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dicomweb_proxy_peers": []}, "dicomweb_proxy_peers is empty"),
        ({"dicomweb_proxy_peers": [{"aet": "PACS", "ip": "192.0.2.1"}]}, "port"),
        ({"dicomweb_proxy_peers": [{"aet": "SEVENTEEN LETTERS", "ip": "192.0.2.1", "port": 104}]}, "SEVENTEEN LETTERS"),
        ({"dicomweb_proxy_port": 443}, "dicomweb_proxy_port"),
        ({"dicomweb_proxy_silence_seconds": 0}, "dicomweb_proxy_silence_seconds"),
        ({"dicomweb_proxy_port": 4242}, "4242"),
        ({"dicomweb_proxy_mode": "dicom"}, "dicomweb_proxy_mode"),
        ({"dicomweb_proxy_mode": "dicomweb"}, "dicomweb_proxy_qido_url"),
        ({"dicomweb_proxy_certificate": "/nowhere.crt"}, "dicomweb_proxy_key"),
        ({"dicomweb_proxy_users": {"a:b": "x"}}, "dicomweb_proxy_users"),
        ({"dicomweb_proxy_usecget": True}, "did you mean dicomweb_proxy_use_cget"),
    ]
    assert not_refused(cases) == []


def test_a_config_of_the_known_form_is_taken_or_refused_with_its_line(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config.jsonc"
    bad = '{\n  "proxyMode": "dimse", // as it was\n  "useCGet": true\n}'
    config.write_text(bad)
    before = host.run("md5sum /etc/dicomweb-proxy/config.jsonc")
    done = play("site.yml", "--extra-vars", json.dumps({"dicomweb_proxy_config": str(config)}))
    assert done.returncode != 0
    assert host.run("md5sum /etc/dicomweb-proxy/config.jsonc") == before
    assert Web(f"http://{host.address}:{HTTP}").get("~/ping").ok


def test_c_get_https_and_a_key(host: Host, sent: list[Instance]) -> None:
    settings = {"dicomweb_proxy_use_cget": True, "dicomweb_proxy_https": True, "dicomweb_proxy_api_key": "k3y-of-a-test"}
    done = play("site.yml", "--extra-vars", json.dumps(settings))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "k3y-of-a-test" not in done.stdout
    web = Web(f"https://{host.address}:{HTTPS}")
    assert web.get("~/studies?limit=1").status_code == 401
    web.session.headers["X-API-Key"] = "k3y-of-a-test"
    assert len(web.get("~/studies?limit=1").json()) == 1
    redirected = web.session.get(f"http://{host.address}:{HTTP}/ping", allow_redirects=False, timeout=30)
    assert redirected.headers["location"] == f"https://{host.address}:{HTTPS}/ping"
    instance = sent[0]
    answer = web.get(f"~{instance.url}", "application/dicom; transfer-syntax=*")
    assert same(read(answer.content), instance.dataset)
    # C-MOVE's port is no longer open.
    assert "8888" not in host.run("cat /etc/dicomweb-firewall.nft")

    back = play("site.yml")
    assert back.returncode == 0, back.stdout[-3000:]
    everything_comes(host, sent)
    assert "127.0.0.1:18888" in host.run("ss -Hltn sport = :18888")
    log = "journalctl -b -u haproxy -o cat --no-pager"
    wait_for(lambda: 'calling="ORTHANC" called="PACSBIN_PROXY" service=dicomweb-proxy' in host.run(log))


def test_rules_of_ufw_come_and_go_with_the_settings(by_name: dict[str, Host]) -> None:
    """Those of somebody else stay, and a table of nftables doesn't, when ufw takes its place."""
    alone = by_name["proxy12"]

    def build(**settings: object) -> None:
        ended = play("site.yml", "--limit=proxy12,localhost", "-e", json.dumps(settings))
        assert ended.returncode == 0, ended.stdout[-2000:]

    alone.run("ufw allow 12345/tcp comment 'somebody else'")
    alone.run("systemd-run --unit=stray python3 -m http.server 8765")
    try:
        assert "Status: active" in alone.run("ufw status")
        assert alone.reached_at(HTTP)
        assert not alone.reached_at(8765)
        build(site_web_networks=["10.99.0.0/24"])
        assert not alone.reached_at(HTTP)
        assert "12345/tcp" in alone.run("ufw show added")
        build(host_firewall="nftables")
        assert "dicomweb_firewall" in alone.run("nft list tables")
        build()
        assert "dicomweb_firewall" not in alone.run("nft list tables")
        assert alone.reached_at(HTTP)
        assert "10.99.0.0/24" not in alone.run("ufw show added")
    finally:
        alone.run("systemctl stop stray; ufw delete allow 12345/tcp")
