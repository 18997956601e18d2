"""dicomwebserver as a process of its own, for the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from servers import free_port, wait_for_answer, with_sources

JSON = "application/dicom+json"


class Server:
    """dicomwebserver over a tree."""

    def __init__(self, root: Path, log: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/static-dicomweb"
        self.log = log
        self.command = [sys.executable, "-m", "static_dicomweb.serve", "--root", str(root), "--port", str(self.port), *options]
        log.unlink(missing_ok=True)
        self.start()

    def start(self) -> None:
        with self.log.open("a") as stderr:
            self.process = subprocess.Popen(self.command, env=with_sources(), stderr=stderr)
        wait_for_answer(self.process, self.log, lambda: requests.get(f"http://127.0.0.1:{self.port}/health", timeout=5))

    def get(self, path: str, accept: str = "*/*") -> requests.Response:
        return requests.get(f"{self.url}{path}", headers={"Accept": accept}, timeout=60)

    def found(self, path: str) -> list[dict[str, Any]]:
        answer = self.get(path, JSON)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else []
