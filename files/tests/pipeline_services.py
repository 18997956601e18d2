"""The pipeline's services as processes, and what they write, for the tests."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import requests
from orthanc_server import STABLE_SECONDS
from pydicom.dataset import Dataset
from servers import SOURCES, free_port

MONITOR_PORT = free_port()


class Running:
    """One of the pipeline's services as a process of its own."""

    def __init__(self, module: str, directory: Path, **settings: object) -> None:
        self.module = module
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {name: str(value) for name, value in settings.items()}
        self.log = directory / f"{module}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(SOURCES),
            "STATE_DIRECTORY": str(self.directory / self.module),
            "STATUS_PORT": str(self.port),
            "STABLE_SECONDS": str(STABLE_SECONDS),
            "POLL_INTERVAL": "0.5",
        }
        return os.environ | own | self.settings

    def start(self) -> None:
        with self.log.open("a") as log:
            arguments = ["run"] if self.module == "pipeline_monitor" else []
            self.process = subprocess.Popen([sys.executable, "-m", self.module, *arguments], env=self.environment, stderr=log)
        wait_for(lambda: self.answers() or self.process is None or self.process.poll() is not None)
        assert self.answers(), self.log.read_text()

    def answers(self) -> bool:
        try:
            return self.get("/status") is not None
        except requests.RequestException:
            return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(60)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(60)

    def get(self, path: str) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.url}{path}", timeout=30).json()

    def counts(self) -> dict[str, int]:
        return {state: count["studies"] for state, count in self.get("/status")["counts"].items()}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", self.module, *arguments]
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def said(self, text: str) -> int:
        return self.log.read_text().count(text)


class Tree:
    """What the monitor has written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def files(self) -> list[Path]:
        return [
            path for path in self.root.rglob("*.dcm") if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        ]

    def datasets(self) -> dict[str, Dataset]:
        read = [pydicom.dcmread(path) for path in self.files]
        found: dict[str, Dataset] = {dataset.SOPInstanceUID: dataset for dataset in read}
        assert len(found) == len(read), "an instance is in the tree twice"
        return found


def wait_for(true: Callable[[], object], seconds: float = 180) -> None:
    """Wait until something is true; fail with what it was where it doesn't come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {inspect.getsource(true).strip()}"
        time.sleep(0.1)
