"""Who may ask and from where, HTTPS, the cache, and the mode that passes requests on."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from datasets import Instance, ct_study
from dimse_proxy.config import read_config
from dimse_proxy.serve import make_self_signed
from orthanc_server import OrthancServer
from pipeline_services import wait_for
from proxy_server import Proxy, parts_of
from servers import free_port, with_sources

VIEWER, OTHER = "https://viewer.example.org", "https://evil.example.org"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def made(directory: Path, archive: OrthancServer, **settings: Any) -> Proxy:
    return Proxy(directory, [("ARCHIVE", archive.dicom_port)], **settings)


def cors(answer: requests.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("access-control-")}


def preflight(proxy: Proxy, origin: str, method: str = "GET") -> requests.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "accept"}
    return proxy.session.options(f"{proxy.url}/studies", headers=headers, timeout=30)


def test_cors_of_any_origin_has_no_credentials(by_get: Proxy) -> None:
    answer = by_get.get("/studies?limit=1", headers={"Origin": VIEWER})
    assert cors(answer)["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in cors(answer)
    assert "Origin" in answer.headers["vary"]
    assert not cors(by_get.get("/studies?limit=1"))


def test_cors_of_named_origins(archive: OrthancServer, tmp_path: Path) -> None:
    proxy = made(
        tmp_path, archive, cors={"origin": [VIEWER], "methods": ["GET"], "allowedHeaders": ["Accept"], "credentials": True}
    )
    answer = proxy.get("/studies?limit=1", headers={"Origin": VIEWER})
    assert cors(answer)["access-control-allow-origin"] == VIEWER
    assert cors(answer)["access-control-allow-credentials"] == "true"
    refused = proxy.get("/studies?limit=1", headers={"Origin": OTHER})
    assert not cors(refused)
    assert "Origin" in refused.headers["vary"]
    assert not cors(proxy.get("/studies?limit=1", headers={"Origin": "null"}))
    # An error must be readable too.
    assert cors(proxy.get("/studies/x", headers={"Origin": VIEWER}))["access-control-allow-origin"] == VIEWER
    allowed = preflight(proxy, VIEWER)
    assert allowed.status_code == 204
    assert cors(allowed)["access-control-allow-methods"] == "GET"
    assert cors(allowed)["access-control-allow-headers"] == "Accept"
    assert {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} <= set(allowed.headers["vary"].split(", "))
    assert not cors(preflight(proxy, OTHER))
    assert not cors(preflight(proxy, VIEWER, "DELETE"))
    proxy.stop()


def test_api_key_and_basic_authentication(archive: OrthancServer, tmp_path: Path) -> None:
    proxy = made(tmp_path, archive, apiKey="k3y", basicAuth=[{"user": "röntgen", "password": "s3cret:ü"}])
    assert proxy.get("/ping").status_code == 200
    refused = proxy.get("/studies?limit=1", headers={"Origin": VIEWER})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert cors(refused)
    assert preflight(proxy, VIEWER).status_code == 204
    assert proxy.get("/studies?limit=1", headers={"X-API-Key": "k3y"}).ok
    assert proxy.get("/studies?limit=1", headers={"X-API-Key": "k3Y"}).status_code == 401
    assert proxy.get("/studies?limit=1", auth=("röntgen".encode(), "s3cret:ü".encode())).ok
    assert proxy.get("/studies?limit=1", auth=("röntgen".encode(), b"s3cret")).status_code == 401
    assert proxy.get("/studies?limit=1", headers={"Authorization": "Basic !"}).status_code == 401
    proxy.stop()
    assert not proxy.said("s3cret") and not proxy.said("k3y")


def test_allowed_networks(archive: OrthancServer, tmp_path: Path) -> None:
    proxy = made(tmp_path, archive, allowedNetworks=["10.0.0.0/8", "127.0.0.2"])
    assert proxy.get("/studies?limit=1").status_code == 403
    adapter = requests.adapters.HTTPAdapter()
    adapter.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.2", 0)
    proxy.session.mount("http://", adapter)
    assert proxy.get("/studies?limit=1").ok
    proxy.stop()


def test_https_redirect_and_a_new_certificate(archive: OrthancServer, tmp_path: Path) -> None:
    port = free_port()
    certificate, key = tmp_path / "tls/server.crt", tmp_path / "tls/server.key"
    make_self_signed(certificate, key)
    settings = {"enabled": True, "port": port, "certPath": str(certificate), "keyPath": str(key), "redirectHttp": True}
    proxy = made(tmp_path, archive, ssl=settings)
    answer = proxy.get("/studies?limit=1", allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://127.0.0.1:{port}/studies?limit=1")
    trusted = proxy.session.get(f"https://localhost:{port}/studies?limit=1", verify=str(certificate), timeout=30)
    assert trusted.status_code in (200, 204)
    first = ssl.get_server_certificate(("127.0.0.1", port))
    # Half of a new pair is not taken.
    key.write_text("no key")
    time.sleep(6)
    assert ssl.get_server_certificate(("127.0.0.1", port)) == first
    certificate.unlink()
    make_self_signed(certificate, key)
    deadline = time.monotonic() + 180
    while ssl.get_server_certificate(("127.0.0.1", port)) == first and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ssl.get_server_certificate(("127.0.0.1", port)) == certificate.read_text()
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    proxy.stop()


def test_a_self_signed_certificate_is_made_and_kept(archive: OrthancServer, tmp_path: Path) -> None:
    port = free_port()
    proxy = made(tmp_path, archive, ssl={"enabled": True, "port": port, "generateSelfSigned": True, "redirectHttp": False})
    first = ssl.get_server_certificate(("127.0.0.1", port))
    assert proxy.get("/studies?limit=1").status_code in (200, 204)
    proxy.stop()
    proxy.start()
    assert ssl.get_server_certificate(("127.0.0.1", port)) == first
    proxy.stop()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dimse_proxy", *arguments]
    return subprocess.run(command, env=with_sources(), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ssl": {"enabled": True, "port": 1, "certPath": "/nowhere/a", "keyPath": "/nowhere/b"}}, "ssl.certPath /nowhere/a"),
        ({"storagePath": "/proc/data"}, "storagePath /proc/data"),
        ({"maxAssociations": 0}, "maxAssociations"),
    ],
)
def test_what_keeps_it_from_starting_is_told(archive: OrthancServer, tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    proxy = made(tmp_path, archive)
    proxy.stop()
    proxy.config |= settings
    with pytest.raises(AssertionError) as raised:
        proxy.start()
    assert told in str(raised.value)
    assert "Traceback" not in proxy.log.read_text()
    assert proxy.process.wait(10) == 2


def test_a_taken_port_is_told(archive: OrthancServer, by_move: Proxy, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"proxyServer: 127\.0\.0\.1"):
        made(tmp_path, archive, useCget=False, dicom_port=by_move.config["dimseProxySettings"]["proxyServer"]["port"])
    assert "Traceback" not in (tmp_path / "proxy.log").read_text()
    with pytest.raises(AssertionError, match=r"webserverPort: 127\.0\.0\.1"):
        made(tmp_path, archive, webserverPort=by_move.port)


def test_settings_can_be_checked_alone(by_get: Proxy, tmp_path: Path) -> None:
    good = by_get.directory / "config.jsonc"
    assert read_config(good)
    assert run(str(good), "--check").returncode == 0
    bad = tmp_path / "bad.jsonc"
    bad.write_text('{\n  "proxyMode": "dimse",\n  "nonsense": 1\n}')
    ended = run(str(bad), "--check")
    assert ended.returncode == 2
    assert f"{bad}:3: nonsense: is unknown" in ended.stderr
    assert run(str(tmp_path / "missing.jsonc")).returncode == 2


def fetched(*proxies: Proxy) -> int:
    return sum(proxy.log.read_text().count(" fetched from ") for proxy in proxies)


@pytest.fixture
def study(archive: OrthancServer, tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    instances = ct_study(8, tmp_path_factory.mktemp("study"), rows=64)
    for instance in instances:
        archive.session.post(f"{archive.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    return instances


def test_the_cache_is_shared_and_trusted_when_whole(archive: OrthancServer, study: list[Instance], tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    directories = [tmp_path / name for name in ("one", "two")]
    for directory in directories:
        directory.mkdir()
    proxies = [made(directory, archive, storagePath=shared) for directory in directories]
    uid = study[0].dataset.StudyInstanceUID
    for _ in range(2):
        for proxy in proxies:
            assert len(parts_of(proxy.get(f"/studies/{uid}", AS_STORED))) == 8
    wait_for(lambda: fetched(*proxies) == 1)
    # A part of what was fetched is there as well, and a file that was cut is not taken.
    assert proxies[1].get(study[3].url, AS_STORED).ok
    wait_for(lambda: fetched(*proxies) == 1)
    [entry] = (tmp_path / "shared/whole").iterdir()
    victim = next(entry.glob("*.dcm"))
    os.truncate(victim, 100)
    assert len(parts_of(proxies[0].get(f"/studies/{uid}", AS_STORED))) == 8
    wait_for(lambda: fetched(*proxies) == 2)
    assert "dicomweb_proxy_cache_hits_total 1.0" in proxies[0].get("/metrics").text
    for proxy in proxies:
        proxy.stop()
    assert fetched(*proxies) == 2
    assert not list((tmp_path / "shared/incoming").iterdir())


@pytest.mark.parametrize(("level", "count"), [("SERIES", 1), ("IMAGE", 8)])
def test_the_level_that_is_fetched(archive: OrthancServer, study: list[Instance], tmp_path: Path, level: str, count: int) -> None:
    proxy = made(tmp_path, archive, useFetchLevel=level)
    for instance in study:
        assert proxy.get(instance.url, AS_STORED).ok
    wait_for(lambda: fetched(proxy) == count)
    proxy.stop()
    assert fetched(proxy) == count


def test_the_cache_is_bounded(archive: OrthancServer, tmp_path: Path) -> None:
    proxy = made(tmp_path, archive, cacheMaxMegabytes=1, cacheRetentionMinutes=0.5)
    for number in range(3):
        for instance in ct_study(2, tmp_path, rows=512, PatientID=str(number)):
            archive.session.post(f"{archive.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
        assert proxy.get(f"/studies/{instance.dataset.StudyInstanceUID}", AS_STORED).ok
    proxy.process.kill()
    proxy.process.wait(30)
    left = tmp_path / "data/incoming/left-by-a-killed-one"
    left.mkdir()
    proxy.start()
    deadline = time.monotonic() + 180
    while (kept := list((tmp_path / "data/whole").iterdir()) or left.exists()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not kept
    proxy.stop()


class Upstream(BaseHTTPRequestHandler):
    """A DICOMweb server that says what it was asked, and has CORS headers of its own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/wado/studies/0.0/metadata":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 50)
            self.close_connection = True
            return
        self._answer(f"{self.command} {self.path} {self.headers.get('Accept')}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"POST " + self.path.encode() + b" " + str(len(body)).encode(), 202)

    def _answer(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Access-Control-Allow-Origin", OTHER)
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def passing(tmp_path: Path) -> Iterator[Proxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    addresses = {"qidoForwardingUrl": f"{base}/qido", "wadoForwardingUrl": f"{base}/wado/"}
    proxy = Proxy(tmp_path, [("NOBODY", 1)], proxyMode="dicomweb", dicomwebProxySettings=addresses, cors={"origin": [VIEWER]})
    yield proxy
    proxy.stop()
    server.shutdown()


def test_requests_pass_unchanged(passing: Proxy) -> None:
    answer = passing.get("/studies?PatientName=A%5EB*&limit=1", "application/dicom+json", headers={"Origin": VIEWER})
    assert answer.text == "GET /qido/studies?PatientName=A%5EB*&limit=1 application/dicom+json"
    assert cors(answer)["access-control-allow-origin"] == VIEWER
    assert answer.headers["etag"] == '"1"'
    assert not cors(passing.get("/studies", headers={"Origin": OTHER}))
    assert passing.get("/studies/1.2/series/1.3/instances/1.4/frames/1,2").text.startswith(
        "GET /wado/studies/1.2/series/1.3/instances/1.4/frames/1,2 "
    )
    stored = passing.session.post(f"{passing.url}/studies", data=b"x" * 5_000_000, timeout=30)
    assert (stored.status_code, stored.text) == (202, "POST /wado/studies 5000000")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        passing.get("/studies/0.0/metadata")
    assert passing.get("/health").json()["status"] == "ok"
    assert passing.get("/ping").text == "pong\n"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/dicom-web/studies?limit=1", 200),
        ("GET", "/dicom-web/studies/1.2/metadata", 200),
        ("GET", "/studies/1.2/series/1.3/instances/1.4/bulk/7FE00010/1", 200),
        ("GET", "/studies/1.2/bulkdata/any/where", 200),
        ("GET", "/dicom-web/../../admin", 404),
        ("GET", "/dicom-web/studies/..", 400),
        ("GET", "/studies/%2e%2e", 400),
        ("GET", "/studies/..%5cadmin/metadata", 400),
        ("GET", "/studies/1.2%2F..%2F..%2Fadmin", 404),
        ("GET", "/studies/1.2/bulkdata/../../../admin", 400),
        ("GET", "/studies/1.2/bulkdata//admin", 400),
        ("GET", "/admin", 404),
        ("GET", "/workitems", 404),
        ("DELETE", "/studies/1.2", 405),
        ("PUT", "/studies", 405),
        ("POST", "/studies/1.2/metadata", 405),
        ("PATCH", "/studies", 405),
    ],
)
def test_only_dicomweb_passes(passing: Proxy, method: str, path: str, expected: int) -> None:
    """The path as it stands: requests would put it into normal form."""
    connection = http.client.HTTPConnection("127.0.0.1", passing.port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    said = answer.read().decode()
    assert answer.status == expected, said
    if expected == 200:
        assert said.startswith(f"GET /{'qido' if '?' in path else 'wado'}{path.removeprefix('/dicom-web')} ")


def test_a_head_that_never_ends_is_not_waited_for(passing: Proxy) -> None:
    """Neither the first request of a connection nor a later one, while others are answered."""
    held = []
    for beginning in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET / HT"):
        connection = socket.create_connection(("127.0.0.1", passing.port), timeout=60)
        connection.sendall(beginning)
        held.append(connection)
    assert passing.get("/ping").text == "pong\n"
    for connection in held:
        while connection.recv(4096):
            pass
        connection.close()


def test_another_server_that_is_down(tmp_path: Path) -> None:
    addresses = {"qidoForwardingUrl": "http://127.0.0.1:9", "wadoForwardingUrl": "http://127.0.0.1:9"}
    proxy = Proxy(tmp_path, [("NOBODY", 1)], proxyMode="dicomweb", dicomwebProxySettings=addresses)
    answer = proxy.get("/studies")
    assert answer.status_code == 502
    assert "http://127.0.0.1:9 can't be reached" in answer.json()["message"]
    assert proxy.get("/health").status_code == 503
    proxy.stop()
