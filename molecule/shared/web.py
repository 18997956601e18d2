"""A DICOMweb client for the tests: thin over requests, so that a test sees what passed over the wire."""

from __future__ import annotations

import email.parser
import email.policy
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import urllib3

urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
JSON = "application/dicom+json"


class Web:
    """The site at an address. Paths are below /dicom-web unless they begin with `~/`, which is the site's root."""

    def __init__(self, root: str, timeout: float = 60) -> None:
        self.root, self.timeout = root, timeout
        self.session = requests.Session()
        # Proxies and authorities of the machine that runs the tests are not the site's.
        self.session.trust_env = False
        self.session.verify = False

    def url(self, path: str) -> str:
        return self.root + (path[1:] if path.startswith("~/") else f"/dicom-web{path}")

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url(path), timeout=self.timeout, **options)

    def get(self, path: str, accept: str = JSON, **options: Any) -> requests.Response:
        return self.request("GET", path, headers={"Accept": accept}, **options)

    def found(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return a search's answers."""
        answer = self.get(path, params=query)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.status_code == 200 else []

    def stow(self, contents: Iterable[bytes], path: str = "/studies", **headers: str) -> requests.Response:
        """Store DICOM files, streamed as one multipart body."""
        boundary = uuid.uuid4().hex

        def body() -> Iterator[bytes]:
            for content in contents:
                yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
                yield content
                yield b"\r\n"
            yield f"--{boundary}--\r\n".encode()

        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return self.request("POST", path, data=body(), headers={"Content-Type": kind, "Accept": JSON, **headers})


def parts(answer: requests.Response) -> list[tuple[str, bytes]]:
    """Return content type and content of each part of a multipart answer."""
    kind = email.parser.Parser(policy=email.policy.HTTP).parsestr(f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n")
    boundary = kind.get_boundary()
    assert boundary, answer.headers["Content-Type"]
    found = []
    for piece in answer.content.split(b"--" + boundary.encode())[1:-1]:
        head, content = piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)
        headers = email.parser.BytesHeaderParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n")
        found.append((str(headers["Content-Type"]), content.removesuffix(b"\r\n")))
    return found


def values(item: dict[str, Any], tag: str) -> list[Any]:
    """Return the values of an attribute in DICOM JSON (PS3.18 F.2)."""
    return list(item.get(tag, {}).get("Value", []))
