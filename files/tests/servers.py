"""A real PostgreSQL, and the worklist service over it, for the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import requests
from psycopg import sql

SOURCES = Path(__file__).parent.parent / "src"


def with_sources() -> dict[str, str]:
    """Return the environment of a service that is run from its sources, beside what PYTHONPATH has already."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH"))))}


class Postgres:
    """A cluster of its own, that tests may stop and start; its server is not root's, which PostgreSQL refuses."""

    def __init__(self, directory: Path) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
        assert binaries, "install PostgreSQL (apt-get install postgresql): its tests run against the real one"
        self.directory = directory
        self._ctl = str(binaries[-1])
        self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if os.geteuid() == 0:
            os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
        self._run("initdb", "--options=--auth=trust --username=postgres --encoding=UTF8 --locale=C.UTF-8")
        with (directory / "data/postgresql.conf").open("a") as settings:
            settings.write(f"listen_addresses = ''\nunix_socket_directories = '{directory}'\nfsync = off\nmax_connections = 200\n")
        self.start()

    def _run(self, action: str, *options: str) -> None:
        data = str(self.directory / "data")
        log = str(self.directory / "log")
        command = [*self._as_user, self._ctl, action, "--pgdata", data, "--wait", "--log", log, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.directory)

    def start(self) -> None:
        self._run("start")

    def stop(self) -> None:
        self._run("stop", "--mode=immediate")

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does: what is in its memory is lost."""
        server = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for process in [server, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while any(Path("/proc", child).exists() for child in children):
            time.sleep(0.05)

    def make_database(self, name: str) -> str:
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.uri(name)

    def uri(self, name: str) -> str:
        return f"host={self.directory} user=postgres dbname={name}"


_given: set[int] = set()


def free_port() -> int:
    """Return a port below those that connections are given: none of them takes it before the service does that it is for.

    Test processes that run side by side have a range each, and none gives one twice: a service may have several.
    """
    first = 20000 + 3000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = random.randrange(first, first + 3000)
        if port in _given:
            continue
        _given.add(port)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """End a service; fail where something failed in it."""
    process.terminate()
    process.wait(60)
    text = log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") :][:4000]


def wait_for_answer(process: subprocess.Popen[bytes], log: Path, ask: Callable[[], requests.Response]) -> None:
    """Wait until a service that was started answers; fail where it ends, or doesn't for three minutes."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if ask().status_code < 500:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a service that was started listens; fail where it ends, or doesn't for three minutes."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {port}")


class Service:
    """The service as a process of its own, with several workers."""

    def __init__(self, uri: str, **settings: str) -> None:
        self.port = free_port()
        self.uri = uri
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self.log = Path(tempfile.mkstemp(prefix="pyupsrs-log-")[1])
        self.start()

    def start(self) -> None:
        names = {"PYUPSRS_DATABASE_URI": self.uri, "PYUPSRS_PORT": str(self.port), "PYTHONPATH": str(SOURCES)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYUPSRS_", "PROMETHEUS_"))}
        with self.log.open("a") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "upsrs"], env=kept | names | self._settings, stderr=log)
        wait_for_answer(self.process, self.log, lambda: requests.get(f"{self.url}/health", timeout=5))

    def stop(self) -> None:
        stop(self.process, self.log)
