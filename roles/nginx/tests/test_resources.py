"""What nginx lets through, asked of a real nginx with the role's configuration, before services that tell what reached them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from password_file import content
from pki import pair
from role_templates import rendered
from servers import free_port

ROLE = Path(__file__).parent.parent
NAME = "site.example"
VIEWER = "https://viewer.example"
STUDY = "/dicom-web/studies/1.2.3"
INSTANCE = f"{STUDY}/series/1.2.3.4/instances/1.2.3.4.5"


class Told(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"
    service = ""
    reached: list[str]

    def answer(self) -> None:
        self.reached.append(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        told = json.dumps([self.service, self.command, self.path, dict(self.headers)]).encode()
        self.send_response(200)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


for taken in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
    setattr(Told, f"do_{taken}", Told.answer)


class Site:
    """An nginx of the role."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.services = []
        urls = {}
        for service in ("orthanc", "upsrs", "static", "pipeline"):
            server = ThreadingHTTPServer(("127.0.0.1", 0), type(service, (Told,), {"service": service, "reached": []}))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.services.append(server)
            urls[f"nginx_{service}_url"] = f"http://127.0.0.1:{server.server_address[1]}"
        certified = pair()
        (directory / "site.crt").write_text(certified.certificate_pem)
        (directory / "site.key").write_text(certified.key_pem())
        (directory / "tree").mkdir()
        self.http, self.https, self.explorer = free_port(), free_port(), free_port()
        given = {
            "nginx_http_port": self.http,
            "nginx_https_port": self.https,
            "nginx_orthanc_explorer_port": self.explorer,
            "nginx_server_names": [NAME, "192.0.2.7", "2001:db8::7"],
            "nginx_certificate_source": "host",
            "nginx_certificate": str(directory / "site.crt"),
            "nginx_certificate_key": str(directory / "site.key"),
            "nginx_access": "none",
            "nginx_static_root": str(directory / "tree"),
            "nginx_max_body_mb": 8,
            "__nginx_platform": {"user": "root", "modules": "/etc/nginx/modules-enabled/*.conf", "http2_directive": False},
            **urls,
            **settings,
        }
        self.process = self.start(given)

    def start(self, given: dict[str, Any]) -> subprocess.Popen[bytes]:
        path = rendered("nginx", "nginx.conf.j2", self.directory, given)
        text = path.read_text().replace("pid /run/nginx.pid;", f"pid {self.directory}/pid;\ndaemon off;")
        text = text.replace("perl_modules /etc/nginx/perl;", f"perl_modules {ROLE}/files;")
        text = text.replace("/run/nginx-logins", f"{self.directory}/logins").replace("/etc/nginx/users", f"{self.directory}/users")
        text = re.sub(r"(error_log|access_log) syslog[^;]*;", rf"\1 {self.directory}/\1;", text)
        text = text.replace(f"access_log {self.directory}/access_log;", "access_log off;")
        path.write_text(text.replace("http {", f"http {{\n    client_body_temp_path {self.directory}/bodies;", 1))
        tested = subprocess.run(["nginx", "-t", "-c", str(path)], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stderr
        process = subprocess.Popen(["nginx", "-c", str(path)])
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.http), timeout=1).close()
                return process
            except OSError:
                assert time.monotonic() < end, "nginx listens at no port after 30 s"
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        for server in self.services:
            server.shutdown()

    def ask(self, method: str, path: str, content: bytes | None = None, /, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, what reached which service, and the headers of the answer. The path is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.putrequest(method, "/", skip_host=True, skip_accept_encoding=True)
        # http.client would refuse some of what hostile clients send.
        connection._buffer[0] = f"{method} {path} HTTP/1.1".encode("latin-1")  # type: ignore[attr-defined]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Host": NAME, **named}.items():
            connection.putheader(name, value)
        if content is not None:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders()
        if content:
            connection.send(content)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        told = json.loads(said) if said.startswith(b"[") else None
        return answer.status, told, dict(answer.getheaders())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not shutil.which("nginx"):
        pytest.fail("nginx isn't installed: make test-packages")
    made = Site(tmp_path_factory.mktemp("nginx"), nginx_cors_origins=[VIEWER])
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/dicom-web/studies?PatientID=1", "orthanc"),
        ("HEAD", "/dicom-web/studies", "orthanc"),
        ("GET", "/dicom-web/series", "orthanc"),
        ("GET", "/dicom-web/instances", "orthanc"),
        ("POST", "/dicom-web/studies", "orthanc"),
        ("GET", STUDY, "orthanc"),
        ("POST", STUDY, "orthanc"),
        ("GET", f"{STUDY}/metadata", "orthanc"),
        ("GET", f"{STUDY}/rendered", "orthanc"),
        ("GET", f"{STUDY}/series", "orthanc"),
        ("GET", f"{STUDY}/instances", "orthanc"),
        ("GET", f"{STUDY}/series/1.2/metadata", "orthanc"),
        ("GET", f"{STUDY}/series/1.2/instances", "orthanc"),
        ("GET", INSTANCE, "orthanc"),
        ("GET", f"{INSTANCE}/metadata", "orthanc"),
        ("GET", f"{INSTANCE}/rendered?viewport=10,10", "orthanc"),
        ("GET", f"{INSTANCE}/thumbnail", "orthanc"),
        ("GET", f"{INSTANCE}/frames/1", "orthanc"),
        ("GET", f"{INSTANCE}/frames/1,2,3", "orthanc"),
        ("GET", f"{INSTANCE}/frames/1%2C2", "orthanc"),
        ("GET", f"{INSTANCE}/frames/1/rendered", "orthanc"),
        ("GET", f"{INSTANCE}/bulk/7FE00010", "orthanc"),
        ("GET", f"{INSTANCE}/bulk/00081140/1/00091001", "orthanc"),
        ("GET", f"{INSTANCE}/bulkdata/7FE00010.1.00091001", "orthanc"),
        ("GET", "/wado?requestType=WADO", "orthanc"),
        ("POST", "/dicom-web/workitems", "upsrs"),
        ("GET", "/dicom-web/workitems/1.2.3", "upsrs"),
        ("PUT", "/dicom-web/workitems/1.2.3/state", "upsrs"),
        ("POST", "/dicom-web/workitems/1.2.3/cancelrequest", "upsrs"),
        ("POST", "/dicom-web/workitems/1.2.3/subscribers/VIEWER", "upsrs"),
        ("POST", "/dicom-web/workitems/1.2.3/subscribers/A%20B%2FC%3BD%25", "upsrs"),
        ("DELETE", "/dicom-web/workitems/1.2.3/subscribers/VIEWER", "upsrs"),
        ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/VIEWER/suspend", "upsrs"),
        ("OPTIONS", "/dicom-web/workitems", "upsrs"),
        ("GET", "/dicom-web/ws/subscribers/A%2FB", "upsrs"),
        ("GET", "/static-dicomweb/studies?PatientID=1", "static"),
        ("POST", "/static-dicomweb/studies", "static"),
        ("GET", "/pipeline/", "pipeline"),
        ("GET", "/pipeline/metrics", "pipeline"),
    ],
)
def test_a_resource_reaches_its_service_as_it_was_sent(site: Site, method: str, path: str, service: str) -> None:
    status, told, _ = site.ask(method, path, b"" if method == "POST" else None)
    assert status == 200
    if method != "HEAD":
        sent = path.removeprefix("/pipeline") if service == "pipeline" else path
        sent = sent.removeprefix("/dicom-web") if service == "upsrs" else sent
        assert told[:3] == [service, method, sent]


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/..\\tools\\shutdown",
        "/dicom-web/..%5ctools%5cnow",
        "/dicom-web/..%5Ctools%5Cnow",
        "/dicom-web/../tools/now",
        "/dicom-web/%2e%2e/tools/now",
        "/dicom-web/.%2e/tools/now",
        "/dicom-web/studies/..",
        "/dicom-web/./studies",
        "//dicom-web/studies",
        "/dicom-web//studies",
        "/dicom-web/studies/1.2%2F..%2F..%2F..%2Ftools%2Fnow",
        "/dicom-web/studies/%252e%252e",
        "/dicom-web/studies;a=b",
        "/dicom-web/studies/1.2%3Ba",
        "/dicom-web/studies/%00",
        "/dicom-web/studies/%0d%0aHost:x",
        "/dicom-web/studies/%7f",
        "/dicom-web/studies/1.2\xe9",
        "/dicom-web/studies/1|2",
        "/dicom-web/studies/%zz",
        "/dicom-web/ws/subscribers/..%2F..%2Fstudies",
        "/dicom-web/ws/subscribers/%2e%2e",
        "/dicom-web/ws/subscribers/A%2F%2FB",
        "/dicom-web/ws/subscribers/A%5CB",
        "/dicom-web/workitems/1.2/subscribers/..%2F..%2F..%2F..%2Ftools%2Fshutdown",
        "/dicom-web/workitems/../subscribers/..%2Fservers%2Fevil%2Fget",
        "/dicom-web/workitems/../state/..%2Fservers%2Fevil",
        "/dicom-web/workitems/./state/.",
        "/dicom-web/workitems/../subscribers/..",
        "/dicom-web/workitems/1.2/subscribers/..",
        "/dicom-web/workitems/1.2/subscribers/../suspend",
        "/dicom-web/workitems/1.2/state/%2Fx",
        "/dicom-web/ws/subscribers/..",
        "/dicom-web/ws/subscribers/..%2Fstudies",
        "/dicom-web/studies?_method=DELETE",
        "/dicom-web/studies?limit=1&%5fm%65thod=PUT",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_in_another_form_reaches_nothing(site: Site, method: str, path: str) -> None:
    status, told, _ = site.ask(method, path, b"" if method == "POST" else None)
    assert (status, told) == (400, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/app/explorer.html"),
        ("GET", "/system"),
        ("POST", "/tools/shutdown"),
        ("POST", "/tools/shutdown/"),
        ("POST", "/tools/reset/"),
        ("DELETE", "/changes"),
        ("PUT", "/tools/accepted-transfer-syntaxes"),
        ("PUT", "/modalities/m"),
        ("POST", "/instances"),
        ("PUT", "/dicom-web/servers/evil"),
        ("POST", "/dicom-web/servers/evil/get"),
        ("GET", "/dicom-web/servers"),
        ("GET", "/dicom-web/"),
        ("GET", "/dicom-web/studies/"),
        ("GET", f"{INSTANCE}/frames/1a"),
        ("GET", f"{INSTANCE}/bulk/evil"),
        ("GET", "/dicom-web/health"),
        ("GET", "/dicom-web/metrics"),
        ("POST", "/pipeline/retry"),
        ("GET", "/.static-dicomweb/studies/1.2/metadata.json"),
    ],
)
def test_what_is_no_resource_is_not_there(site: Site, method: str, path: str) -> None:
    status, told, _ = site.ask(method, path, b"" if method == "POST" else None)
    assert (status, told) == (404, None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", STUDY, {"GET", "HEAD", "POST"}),
        ("PUT", "/dicom-web/studies", {"GET", "HEAD", "POST"}),
        ("POST", "/dicom-web/series", {"GET", "HEAD"}),
        ("POST", INSTANCE, {"GET", "HEAD"}),
        ("PATCH", STUDY, {"GET", "HEAD", "POST"}),
        ("GETX", STUDY, {"GET", "HEAD", "POST"}),
        ("OPTIONS", STUDY, {"GET", "HEAD", "POST"}),
        ("POST", "/pipeline/metrics", {"GET", "HEAD"}),
        ("GET", "/dicom-web/workitems/1.2/state", {"PUT", "OPTIONS"}),
        ("DELETE", "/static-dicomweb/studies/1.2", {"GET", "HEAD", "POST"}),
    ],
)
def test_a_method_that_a_resource_does_not_take_is_refused_with_those_that_it_takes(
    site: Site, method: str, path: str, allowed: set[str]
) -> None:
    status, told, headers = site.ask(method, path)
    assert (status, told) == (405, None)
    assert {each.strip() for each in headers["Allow"].split(",")} - {""} == allowed


@pytest.mark.parametrize("host", ["evil.example", "x;proto=ftp", 'a"b', "127.0.0.1.evil.example", f"{NAME}.evil.example"])
def test_another_host_is_not_answered_for(site: Site, host: str) -> None:
    status, told, _ = site.ask("GET", "/dicom-web/studies", Host=host)
    assert status in (400, 421) and told is None


@pytest.mark.parametrize("host", [NAME, NAME.upper(), f"{NAME}:1", "192.0.2.7", "[2001:db8::7]", "localhost"])
def test_answers_name_the_site_with_its_port_whatever_the_client_said(site: Site, host: str) -> None:
    status, told, _ = site.ask("GET", "/dicom-web/studies", Host=host)
    name = host.lower().removesuffix(":1")
    assert status == 200
    headers = told[3]
    assert headers["Host"] == headers["X-Forwarded-Host"] == f"{name}:{site.http}"
    assert headers["Forwarded"] == f"host={name}:{site.http};proto=http"


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", "/dicom-web/studies", {"Origin": "https://evil.example"}, 403),
        ("POST", "/dicom-web/studies", {"Origin": "null"}, 403),
        ("PUT", "/dicom-web/workitems/1.2/state", {"Origin": "https://evil.example"}, 403),
        ("POST", "/dicom-web/studies", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("POST", "/dicom-web/studies", {"Sec_Fetch_Site": "Same-Site"}, 403),
        ("GET", "/dicom-web/ws/subscribers/A", {"Origin": "https://evil.example", "Upgrade": "websocket"}, 403),
        ("GET", "/dicom-web/studies", {"Origin": "https://evil.example"}, 200),
        ("POST", "/dicom-web/studies", {"Origin": VIEWER, "Sec_Fetch_Site": "cross-site"}, 200),
        ("POST", "/dicom-web/studies", {"Sec_Fetch_Site": "same-origin"}, 200),
        ("POST", "/dicom-web/studies", {}, 200),
    ],
)
def test_what_changes_something_comes_from_a_page_that_may(
    site: Site, method: str, path: str, headers: dict[str, str], expected: int
) -> None:
    body = b"" if method == "POST" else None
    assert site.ask(method, path, body, **headers)[0] == expected


def test_the_sites_own_pages_may_change_something(site: Site) -> None:
    for origin in (f"http://{NAME}:{site.http}", f"https://{NAME}:{site.https}", f"https://[2001:db8::7]:{site.https}"):
        assert site.ask("POST", "/dicom-web/studies", b"", Origin=origin)[0] == 200
    assert site.ask("POST", "/dicom-web/studies", b"", Origin=f"https://{NAME}")[0] == 403


@pytest.mark.parametrize("path", ["/dicom-web/studies", "/dicom-web/workitems", "/static-dicomweb/studies"])
def test_a_page_elsewhere_may_ask_where_it_is_named(site: Site, path: str) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type,authorization"}
    status, told, headers = site.ask("OPTIONS", path, None, Origin=VIEWER, **asked)
    assert (status, told) == (204, None)
    assert headers["Access-Control-Allow-Origin"] == VIEWER
    assert headers["Access-Control-Allow-Headers"] == asked["Access_Control_Request_Headers"]
    assert {"GET", "POST"} <= {each.strip() for each in headers["Access-Control-Allow-Methods"].split(",")}
    status, _, headers = site.ask("GET", path, Origin=VIEWER)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == VIEWER and "Origin" in headers["Vary"]
    assert "Access-Control-Allow-Methods" not in headers
    status, _, headers = site.ask("OPTIONS", path, None, Origin="https://evil.example", **asked)
    assert status in (405, 200) and "Access-Control-Allow-Origin" not in headers


def test_only_a_store_has_a_large_body(site: Site) -> None:
    large = b"x" * (2 << 20)
    for path in ("/dicom-web/workitems", "/dicom-web/workitems/1.2.3/cancelrequest"):
        assert site.ask("POST", path, large)[0] == 413
    for path in ("/dicom-web/series", "/dicom-web/studies", "/static-dicomweb/studies"):
        assert site.ask("GET", path, large)[0] == 413
    for path in (
        "/dicom-web/studies",
        STUDY,
        "/static-dicomweb/studies",
        "/static-dicomweb/studies/1.2",
        "/static-dicomweb/instances",
    ):
        assert site.ask("POST", path, large)[0] == 200
    assert site.ask("POST", "/dicom-web/studies", b"x" * (9 << 20))[0] == 413


def test_a_compressed_body_is_refused(site: Site) -> None:
    for encoding in ("gzip", "0", "deflate, gzip"):
        assert site.ask("POST", "/dicom-web/studies", b"x", Content_Encoding=encoding)[0] == 415
    _, told, _ = site.ask("POST", "/dicom-web/studies", b"x", Content_Encoding="identity", X_HTTP_Method_Override="DELETE")
    assert told[1] == "POST" and not {"Content-Encoding", "X-Http-Method-Override"} & {name.title() for name in told[3]}


def test_an_answer_has_each_header_once(site: Site) -> None:
    for path in ("/dicom-web/studies", "/static-dicomweb/studies/1.2/metadata", "/pipeline/"):
        connection = http.client.HTTPConnection("127.0.0.1", site.http, timeout=30)
        connection.request("GET", path, headers={"Host": NAME})
        names = [name.lower() for name, _ in connection.getresponse().getheaders()]
        for name in ("x-content-type-options", "referrer-policy"):
            assert names.count(name) == 1, path


def test_uploads_that_come_slowly_hold_up_no_others(tmp_path: Path) -> None:
    """Those whose length is announced reach nobody before they are whole; those in chunks have a quarter of a client's places."""
    site = Site(tmp_path, nginx_stores=16, nginx_stores_of_client=12)
    reached = site.services[0].RequestHandlerClass.reached  # type: ignore[attr-defined]
    head = "POST /dicom-web/studies{} HTTP/1.1\r\nHost: " + NAME + "\r\n"
    with contextlib.ExitStack() as held:
        held.callback(site.stop)

        def begun(lines: str, count: int) -> None:
            for _ in range(count):
                one = held.enter_context(socket.create_connection(("127.0.0.1", site.http)))
                one.sendall(f"{head.format('/1.2')}{lines}\r\n\r\n5\r\n12345".encode())

        def status(lines: str, body: str) -> int:
            with socket.create_connection(("127.0.0.1", site.http), timeout=30) as one:
                one.sendall(f"{head.format('')}Connection: close\r\n{lines}\r\n\r\n{body}".encode())
                return int(one.recv(100).split()[1])

        def refused(lines: str, body: str) -> None:
            end = time.monotonic() + 30
            while status(lines, body) != 503:
                assert time.monotonic() < end, "no further upload of the client was ever refused"

        begun("Transfer-Encoding: chunked", 3)
        refused("Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n")
        begun("Content-Length: 1000", 8)
        assert status("Content-Length: 1", "x") == 200
        begun("Content-Length: 1000", 1)
        refused("Content-Length: 1", "x")
        assert site.ask("GET", "/dicom-web/studies")[0] == 200
        assert reached.count("/dicom-web/studies/1.2") <= 3


def test_memory_is_set_aside_for_what_has_come_alone(tmp_path: Path) -> None:
    """Orthanc takes as much as a Content-Length announces: it hears of it once all is there, by an inner nginx if it is large."""
    for behind, length in ((False, 100_000), (True, 150_000_000)):
        directory = tmp_path / str(behind)
        directory.mkdir()
        site = Site(directory, nginx_max_body_mb=200, nginx_behind_proxy=behind)
        reached = site.services[0].RequestHandlerClass.reached  # type: ignore[attr-defined]
        with contextlib.ExitStack() as held:
            held.callback(site.stop)
            connection = held.enter_context(socket.create_connection(("127.0.0.1", site.http)))
            head = f"POST /dicom-web/studies/1 HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + b"x" * 1000)
            assert site.ask("POST", "/dicom-web/studies/2", b"x")[0] == 200
            assert reached == ["/dicom-web/studies/2"]
            assert site.ask("POST", "/dicom-web/studies/3", bytes(length))[1][:3] == ["orthanc", "POST", "/dicom-web/studies/3"]


def test_an_archive_that_is_gone_is_told_as_busy(tmp_path: Path) -> None:
    site = Site(tmp_path, nginx_orthanc_url=f"http://127.0.0.1:{free_port()}")
    try:
        status, _, headers = site.ask("POST", "/dicom-web/studies", b"x")
        assert (status, headers["Retry-After"]) == (503, "1")
    finally:
        site.stop()


def test_a_password_is_checked_once_and_guesses_are_counted(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(content("", {"ada": "a pass:word", "bob": "other"}))

    def basic(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    site = Site(tmp_path, nginx_access="basic", nginx_guesses_per_minute=5, nginx_login_seconds=60)
    try:
        for path in ("/dicom-web/studies", "/static-dicomweb/studies", "/dicom-web/workitems", "/pipeline/", "/wado"):
            for _ in range(5):
                status, _, headers = site.ask("GET", path)
                assert status == 401 and headers["WWW-Authenticate"].startswith("Basic")
        right = basic("ada", "a pass:word")
        told = [site.ask("GET", "/dicom-web/studies", Authorization=right) for _ in range(50)]
        assert {status for status, _, _ in told} == {200}
        assert "Authorization" not in told[0][1][3]
        assert site.ask("POST", "/dicom-web/studies", b"x", Authorization=right)[0] == 200
        assert site.ask("GET", "/dicom-web/workitems", Authorization=right)[1][3]["X-Remote-User"] == "ada"
        guessed = [site.ask("GET", "/dicom-web/studies", Authorization=basic("bob", str(number)))[0] for number in range(20)]
        assert guessed[0] == 401 and guessed[-1] == 429 and set(guessed) == {401, 429}
        below = "/static-dicomweb/studies/1.2/series/1.3/instances/1.4"
        places = ["/wado", "/pipeline/", "/dicom-web/workitems", INSTANCE, f"{INSTANCE}/frames/1", "/static-dicomweb/studies"]
        places += [f"{below}{resource}" for resource in ("", "/metadata", "/frames/1", "/bulkdata/7FE00010")]
        places += ["/static-dicomweb/studies/1.2", "/static-dicomweb/studies/1.2/metadata"]
        wrong = basic("bob", "another")
        assert {place: site.ask("GET", place, Authorization=wrong)[0] for place in places} == dict.fromkeys(places, 429)
        assert {place: site.ask("GET", place)[0] for place in places} == dict.fromkeys(places, 401)
        stores = ["/dicom-web/studies", "/dicom-web/studies/1.2", "/static-dicomweb/studies"]
        assert {place: site.ask("POST", place, b"x", Authorization=wrong)[0] for place in stores} == dict.fromkeys(stores, 429)
        assert site.ask("GET", "/dicom-web/studies", Authorization=right)[0] == 200
        assert (tmp_path / "logins").stat().st_mode & 0o077 == 0
    finally:
        site.stop()


def test_removal_is_passed_on_where_a_setting_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, nginx_delete=True)
    try:
        assert site.ask("DELETE", STUDY)[1][:2] == ["orthanc", "DELETE"]
        assert site.ask("DELETE", "/static-dicomweb/studies/1.2")[1][:2] == ["static", "DELETE"]
        assert site.ask("DELETE", "/dicom-web/studies")[0] == 405
    finally:
        site.stop()
