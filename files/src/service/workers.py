"""Processes that answer at one socket, watched over by one that starts another in place of each that ends."""

from __future__ import annotations

import os
import socket
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess

_FIRST_PASSED_SOCKET = 3


class _Worker(multiprocess.Process):
    """uvicorn's worker, of whose end its supervisor hears at once.

    uvicorn keeps the worker's end of their pipe open in the supervisor, too. So where a worker is killed before it answers, as
    while it starts, the supervisor waits for an answer as long as it would for one that is slow: nobody takes its place for a
    minute, and nobody is told to stop.
    """

    def start(self) -> None:
        """Start it, with its end of the pipe its own."""
        super().start()
        self.child_conn.close()


multiprocess.Process = _Worker  # type: ignore[misc]


def listener(host: str, port: int) -> socket.socket:
    """Return the socket that systemd has passed (sd_listen_fds(3)), or one of our own; raise OSError where that can't be had."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        made = socket.socket(fileno=_FIRST_PASSED_SOCKET)
    else:
        made = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    made.set_inheritable(True)
    return made


def run(factory: str, workers: int, at: socket.socket, log_config: dict[str, Any], **options: Any) -> None:
    """Run so many workers until told to stop.

    `factory` is what makes an application (`module:function`), `options` are uvicorn's.
    """
    config = uvicorn.Config(
        factory,
        factory=True,
        workers=workers,
        log_config=log_config,
        log_level=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
        # A worker that isn't there by then is given up, and with it a reload: a busy host takes its time to start one.
        timeout_worker_healthcheck=60,
        **options,
    )
    Multiprocess(config, sockets=[at]).run()
