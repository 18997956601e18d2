"""Runs on the host itself, by its own Python: stores a body and fetches a study, directly and through nginx, and prints seconds.

Usage: transfer.py STOW_BODY STUDY_UID REPEATS
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from pathlib import Path

DIRECT, NGINX = "direct", "nginx"


def connection(way: str) -> http.client.HTTPConnection:
    if way == DIRECT:
        return http.client.HTTPConnection("127.0.0.1", 8042, timeout=300)
    return http.client.HTTPSConnection("127.0.0.1", 9443, timeout=300, context=ssl._create_unverified_context())


def request(way: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[float, int]:
    """Return the seconds of one request, from the connection to the last byte of the answer, and that answer's bytes."""
    begun = time.monotonic()
    client = connection(way)
    client.request(method, path, body, headers)
    answer = client.getresponse()
    buffer, size = bytearray(1 << 20), 0
    while count := answer.readinto(buffer):
        size += count
    if answer.status != 200:
        raise SystemExit(f"{method} {path} by {way}: {answer.status}")
    return time.monotonic() - begun, size


def forget(study: str) -> None:
    """Remove the study, so that the next STOW stores it again."""
    client = http.client.HTTPConnection("127.0.0.1", 8042, timeout=300)
    client.request("POST", "/tools/find", json.dumps({"Level": "Study", "Query": {"StudyInstanceUID": study}}))
    for found in json.loads(client.getresponse().read()):
        client.request("DELETE", f"/studies/{found}")
        client.getresponse().read()


def main() -> None:
    study, repeats = sys.argv[2], int(sys.argv[3])
    body = Path(sys.argv[1]).read_bytes()
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        # In turns, so that what else the machine does meets both.
        for way in (DIRECT, NGINX):
            forget(study)
            stow, _ = request(way, "POST", "/dicom-web/studies", body, {"Content-Type": kind, "Accept": "application/dicom+json"})
            accept = {"Accept": 'multipart/related; type="application/dicom"'}
            wado, _ = request(way, "GET", f"/dicom-web/studies/{study}", None, accept)
            seconds.setdefault(f"stow {way}", []).append(stow)
            seconds.setdefault(f"wado {way}", []).append(wado)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
