"""Where pixels are decoded: in a few processes beside the one that answers.

Decoders are written in C, and get what strangers have made. One that crashes, or never comes to an end, ends a process that does
nothing else, and costs the one answer. These processes are forked off one that has read the libraries and does nothing else, so
that no picture but the first waits for that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
import weakref
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import anyio
from anyio import to_thread

from dicomweb.errors import RequestError

_Result = TypeVar("_Result")
# Of each process that answers. What many clients ask for at once waits, so that it can't fill the memory.
_MOST_AT_ONCE = 2
# Seconds: the largest frame that is rendered takes some ten.
_LONGEST = 60.0
# Seconds after which a process that does nothing is ended, when another is looked for.
_LONGEST_IDLE = 300.0

_fork_server = multiprocessing.get_context("forkserver")
# And what the services' programs begin with, which each process reads again.
_fork_server.set_forkserver_preload(["dicomweb.wado", "service.settings", "service.workers"])


class _CrashedError(Exception):
    """The process has ended."""


class _Process:
    """A process that does one thing after the other."""

    def __init__(self) -> None:
        self._connection, theirs = _fork_server.Pipe()
        self._process = _fork_server.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._process.pid
        # Names this process, whatever becomes of its number, and of what has forked it. It goes with this object, as the connection
        # does, which ends the process: also where who asked for one has left before it was there.
        self._descriptor = os.pidfd_open(self._process.pid)
        weakref.finalize(self, os.close, self._descriptor)
        self.idle_since = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Return whether it can be given something to do."""
        return self._process.is_alive()

    def do(self, work: Callable[[], Any]) -> tuple[bool, Any]:
        """Return whether the work was done, and what it made or raised; raise _CrashedError."""
        try:
            self._connection.send_bytes(pickle.dumps(work))
            made: tuple[bool, Any] = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise _CrashedError from None
        return made

    def end(self) -> None:
        """End it, whatever it does; wait for nothing."""
        # Its connection is closed when no thread waits at it any more.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)


def _started() -> _Process:
    """Return a new process; raise RequestError (503) where there can be none."""
    for _ in range(2):
        # The second time, another is forked off: the first may have been killed just then.
        with contextlib.suppress(EOFError, OSError):
            return _Process()
    raise RequestError(503, "No process to decode in can be started: try again later.")


def _serve(connection: Connection) -> None:
    """Do what is asked for until nobody can ask any more."""
    # Who asks is told to end, and ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_outcome(connection.recv_bytes()))


def _outcome(asked: bytes) -> bytes:
    try:
        return pickle.dumps((True, pickle.loads(asked)()))
    except Exception as error:
        try:
            # Some can be packed, and can't be unpacked.
            packed = pickle.dumps((False, error))
            pickle.loads(packed)
        except Exception:
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        return packed


class Decoders:
    """What takes the processor's time, at most two at a time of each kind."""

    def __init__(self, longest: float = _LONGEST) -> None:
        """`longest` is the time in seconds that one decoding may take."""
        self._longest = longest
        self._limiters: tuple[anyio.CapacityLimiter, anyio.CapacityLimiter] | None = None
        self._idle: list[_Process] = []

    def _limits(self) -> tuple[anyio.CapacityLimiter, anyio.CapacityLimiter]:
        # They belong to the event loop, which isn't there yet when this is made.
        self._limiters = self._limiters or (anyio.CapacityLimiter(_MOST_AT_ONCE), anyio.CapacityLimiter(_MOST_AT_ONCE))
        return self._limiters

    async def read(self, work: Callable[..., _Result], *given: object) -> _Result:
        """Return what `work` makes, in a thread: what decodes nothing."""
        return await to_thread.run_sync(partial(work, *given), limiter=self._limits()[0])

    async def decode(self, work: Callable[..., _Result], *given: object) -> _Result:
        """Return what `work`, a function of a module, makes in a process.

        Raises RequestError: its own, 406 where the process ends, 503 where it takes too long.
        """
        async with self._limits()[1]:
            try:
                with anyio.fail_after(self._longest):
                    is_done, made = await self._in_process(partial(work, *given))
            except _CrashedError:
                raise RequestError(406, "The instance can't be decoded: the decoder crashed.") from None
            except TimeoutError:
                message = f"The instance wasn't decoded within {self._longest:g} seconds."
                raise RequestError(503, message) from None
        if not is_done:
            raise made
        result: _Result = made
        return result

    async def _in_process(self, work: Callable[[], Any]) -> tuple[bool, Any]:
        process = self._idle_process()
        if process is None:
            process = await _in_thread(_started)
        try:
            outcome = await _in_thread(process.do, work)
        except BaseException:
            # Whoever waits for it in a thread hears of its end.
            process.end()
            raise
        process.idle_since = time.monotonic()
        self._idle.append(process)
        return outcome

    def _idle_process(self) -> _Process | None:
        """Return the process that was used last of those that do nothing; end those that haven't been used for long."""
        long_ago = time.monotonic() - _LONGEST_IDLE
        while self._idle and self._idle[0].idle_since < long_ago:
            self._idle.pop(0).end()
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            process.end()
        return None

    async def warm(self) -> None:
        """Have a process that has read the libraries, so that not even the first picture waits for that."""
        await self.decode(os.getpid)


async def _in_thread(work: Callable[..., _Result], *given: object) -> _Result:
    # As many at once as `decode` lets, and nobody else's limit: they mostly wait.
    return await to_thread.run_sync(work, *given, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
