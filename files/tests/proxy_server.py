"""The proxy as a process of its own, and archives for it, for the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import requests
from orthanc_server import OrthancServer
from servers import free_port, stop, wait_for_answer, with_sources

PROXY_AET = "PACSBIN_PROXY"


class Proxy:
    """A proxy on loopback. Settings are those of config.jsonc."""

    def __init__(self, directory: Path, peers: list[tuple[str, int]], **settings: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own_port = settings.pop("dicom_port", None) or free_port()
        own = {"aet": PROXY_AET, "ip": "127.0.0.1", "port": own_port}
        self.config = {
            "proxyMode": "dimse",
            "dimseProxySettings": {
                "proxyServer": own,
                "peers": [{"aet": aet, "ip": "127.0.0.1", "port": port} for aet, port in peers],
            },
            "webserverHost": "127.0.0.1",
            "webserverPort": self.port,
            "storagePath": str(directory / "data"),
            "useCget": True,
            "silenceSeconds": 3,
            **settings,
        }
        self.session = requests.Session()
        self.session.trust_env = False
        self.log = directory / "proxy.log"
        self.start()

    def start(self) -> None:
        path = self.directory / "config.jsonc"
        path.write_text("// of a test\n" + json.dumps(self.config, indent=2))
        with self.log.open("a") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "dimse_proxy", str(path)], env=with_sources(), stderr=log)
        ask = partial(self.session.get, f"{self.url}/ping", timeout=5, allow_redirects=False)
        wait_for_answer(self.process, self.log, ask)

    def stop(self) -> None:
        stop(self.process, self.log)

    def get(self, path: str, accept: str = "*/*", **options: Any) -> requests.Response:
        headers = {"Accept": accept} | options.pop("headers", {})
        return self.session.get(f"{self.url}{path}", headers=headers, timeout=60, **options)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()


def dimse_archive(directory: Path, aet: str, proxy_port: int) -> OrthancServer:
    """Return an Orthanc that knows the proxy as a destination of C-MOVE."""
    directory.mkdir(exist_ok=True)
    modality = {"AET": PROXY_AET, "Host": "127.0.0.1", "Port": proxy_port}
    allowed = {f"DicomAlwaysAllow{service}": True for service in ("Find", "Get", "Move")}
    return OrthancServer(directory, aet, DicomModalities={"proxy": modality}, DefaultEncoding="Utf8", **allowed)


def parts_of(answer: requests.Response) -> list[tuple[str, bytes]]:
    """Return the parts of a multipart answer: content type and content."""
    kind = answer.headers["content-type"]
    boundary = b"--" + kind.split("boundary=")[1].split(";")[0].strip('"').encode()
    assert answer.content.endswith(boundary + b"--\r\n")
    found = []
    for part in answer.content.split(boundary)[1:-1]:
        head, _, body = part[2:].partition(b"\r\n\r\n")
        fields = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n"))
        found.append((fields["Content-Type"], body[:-2]))
    return found
