"""Runs on the pipeline's host, `watch.py UID COUNT DIRECTORY`, and prints when (seconds) a study to come had got how far."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

GATEWAY, STORAGE = "http://127.0.0.1:8042", "http://127.0.0.1:8043"


def asked(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return dict(json.load(answer))


class Follower:
    """The newest changes of one Orthanc."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.last = asked(f"{url}/changes?last")["Last"]

    def kinds(self) -> list[str]:
        page = asked(f"{self.url}/changes?since={self.last}&limit=10000")
        self.last = page["Last"]
        return [change["ChangeType"] for change in page["Changes"]]  # type: ignore[attr-defined]


def main() -> None:
    uid, count, tree = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    gateway, storage = Follower(GATEWAY), Follower(STORAGE)
    print("ready", flush=True)
    times: dict[str, float] = {}
    while "stable at the storage" not in times:
        now = time.time()
        if "stable at the gateway" not in times and "StableStudy" in gateway.kinds():
            times["stable at the gateway"] = now
        for kind in storage.kinds():
            if kind in ("NewInstance", "StableStudy"):
                times["stored" if kind == "NewInstance" else "stable at the storage"] = now
        time.sleep(0.03)
    files: list[Path] = []
    while len(files) < count:
        # The files say themselves when they were written: looking often would only take the processor from what is measured.
        time.sleep(0.2)
        files = [path for path in tree.glob(f"*/{uid}/*/*.dcm") if not path.name.startswith(".")]
    times["file"] = max(path.stat().st_mtime for path in files)
    print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
