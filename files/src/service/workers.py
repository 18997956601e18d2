"""Processes that answer at one socket, watched over by one that starts another in place of each that ends."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
from typing import Any, ClassVar
from weakref import WeakSet

import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess

_FIRST_PASSED_SOCKET = 3
_fork = multiprocessing.get_context("fork")


class _Worker(multiprocess.Process):
    """uvicorn's worker, forked off its supervisor, which hears of its end at once.

    uvicorn starts a new Python for each, which reads for seconds what its supervisor has in its memory, and needs that memory once
    more. The supervisor runs no threads and has no connections that it could share with what it forks.

    uvicorn keeps the worker's end of their pipe open in the supervisor, too. So where a worker is killed before it answers, as
    while it starts, the supervisor waits for an answer as long as it would for one that is slow: nobody takes its place for a
    minute, and nobody is told to stop.
    """

    _all: ClassVar[WeakSet[_Worker]] = WeakSet()

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.process = _fork.Process(target=self._answer, args=(sockets,))  # type: ignore[assignment]
        self._all.add(self)

    def start(self) -> None:
        """Start it, with its end of the pipe its own."""
        # Else one that is told to end before it has handlers of its own would hear of it by its supervisor's, and stay.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, multiprocess.SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.child_conn.close()

    def always_pong(self) -> None:
        """Answer the supervisor, in a thread of the worker, until it leaves."""
        with contextlib.suppress(EOFError, OSError):
            super().always_pong()

    def _answer(self, sockets: list[socket.socket]) -> None:
        """Be the worker: without what the supervisor has of its own."""
        for number in multiprocess.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, multiprocess.SIGNALS)
        for worker in self._all:
            worker.parent_conn.close()
        self.config.configure_logging()
        self.target(sockets)


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
    # Once, for all workers.
    importlib.import_module(factory.partition(":")[0])
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
