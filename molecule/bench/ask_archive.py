"""Runs on the host itself, by its own Python: asks the site's DICOMweb through nginx with TLS, and prints seconds and bytes.

Usage: ask_archive.py SMALL_STUDY LARGE_STUDY SERIES INSTANCE STOW_BODY STOW_STUDY REPEATS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transfer import NGINX, forget, request

JSON, ALL = "application/dicom+json", 'multipart/related; type="application/dicom"; transfer-syntax=*'


def asked(path: str, accept: str, body: bytes | None = None, kind: str = "") -> tuple[float, int]:
    """Return the seconds of one request, from the connection to the last byte of the answer, and its bytes."""
    headers = {"Accept": accept, "Accept-Encoding": "gzip"} | ({"Content-Type": kind} if body else {})
    return request(NGINX, "POST" if body else "GET", f"/dicom-web{path}", body, headers)


def main() -> None:
    small, large, series, instance, body, stored, repeats = sys.argv[1:]
    content, kind = Path(body).read_bytes(), 'multipart/related; type="application/dicom"; boundary=b'
    frame = f"/studies/{large}/series/{series}/instances/{instance}/frames/1"
    found: dict[str, list[tuple[float, int]]] = {"first metadata": [asked(f"/studies/{small}/metadata", JSON)]}
    for _ in range(int(repeats)):
        forget(stored)
        for name, answer in (
            ("instances", asked(f"/studies/{small}/instances", JSON)),
            ("metadata", asked(f"/studies/{small}/metadata", JSON)),
            ("study", asked(f"/studies/{large}", ALL)),
            ("frame", asked(frame, "multipart/related; type=application/octet-stream; transfer-syntax=*")),
            ("stow", asked("/studies", JSON, content, kind)),
        ):
            found.setdefault(name, []).append(answer)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
