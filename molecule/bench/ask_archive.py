"""Runs on the host itself, by its own Python: asks the site's DICOMweb through nginx with TLS, and prints seconds and bytes.

Usage: ask_archive.py SMALL_STUDY LARGE_STUDY SERIES INSTANCE STOW_BODY STOW_STUDY REPEATS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transfer import NGINX, forget, request

SHORT_REPEATS = 5
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
        found.setdefault("instances", []).append(asked(f"/studies/{small}/instances", JSON))
        found.setdefault("study", []).append(asked(f"/studies/{large}", ALL))
        # What takes milliseconds is asked several times, as a viewer asks: else it tells how long a host takes to wake up.
        for _ in range(SHORT_REPEATS):
            found.setdefault("metadata", []).append(asked(f"/studies/{small}/metadata", JSON))
            found.setdefault("frame", []).append(
                asked(frame, "multipart/related; type=application/octet-stream; transfer-syntax=*")
            )
        found.setdefault("stow", []).append(asked("/studies", JSON, content, kind))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
