"""The archives, and the associations with them: reused, bounded, each waiting its turn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from dicomweb.errors import RequestError
from dimse.part10 import EXPLICIT, IMPLICIT
from dimse.scu import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    VERIFICATION,
    Proposal,
    RejectedError,
    Requester,
    UnreachableError,
    associate,
)
from dimse.upper_layer import Begin, BrokenError, SilentError

from dimse_proxy import metrics
from dimse_proxy.config import Config, Entity

_Result = TypeVar("_Result")
# An archive ends associations that say nothing, mostly after 30 s.
_IDLE_SECONDS = 10.0

FIND = (Proposal(STUDY_ROOT_FIND, (EXPLICIT, IMPLICIT)), Proposal(VERIFICATION, (IMPLICIT,)))
FUZZY_FIND = (Proposal(STUDY_ROOT_FIND, (EXPLICIT, IMPLICIT), is_fuzzy=True),)
MOVE = (Proposal(STUDY_ROOT_MOVE, (EXPLICIT, IMPLICIT)),)


@dataclass(eq=False)
class _Idle:
    requester: Requester
    proposals: Sequence[Proposal]
    since: float


class Peer:
    """One archive."""

    def __init__(self, entity: Entity, config: Config, threads: ThreadPoolExecutor) -> None:
        self.entity = entity
        self._calling = config.dimse.proxy_server.aet
        self._most = config.associations
        self._patience = config.max_waiting_seconds
        self._silence = config.silence_seconds
        self._threads = threads
        self._turns = asyncio.Semaphore(self._most)
        self._busy = 0
        self._idle: list[_Idle] = []
        self.problem = ""
        """Why it can't be reached, as it was when it was last asked."""

    @property
    def name(self) -> str:
        """Return it as messages name it."""
        return f"{self.entity.aet} at {self.entity.ip}:{self.entity.port}"

    @property
    def associations(self) -> int:
        """Return how many associations are open."""
        return self._busy + len(self._idle)

    async def run(self, proposals: Sequence[Proposal], work: Callable[[Requester], _Result], begin: Begin | None = None) -> _Result:
        """Do something over an association, in a thread. Raises RequestError (502, 503, 504) that says why it can't be done."""
        async with self._turn():
            try:
                result = await self._attempt(proposals, work, begin)
            except BrokenError as error:
                self.problem = f"{self.name}: {error}"
                raise self._translated(error) from error
            self.problem = ""
            return result

    async def _attempt(self, proposals: Sequence[Proposal], work: Callable[[Requester], _Result], begin: Begin | None) -> _Result:
        idle = self._take_idle(proposals)
        if idle:
            idle.begin = begin
            try:
                return await self._in_thread(functools.partial(self._work, idle, proposals, work))
            except BrokenError:
                # The peer may have ended it while nobody looked: then nothing was done.
                if idle.was_answered:
                    raise
        await self._make_room()
        requester = await self._in_thread(functools.partial(self._open, proposals, begin))
        return await self._in_thread(functools.partial(self._work, requester, proposals, work))

    def _open(self, proposals: Sequence[Proposal], begin: Begin | None) -> Requester:
        entity = self.entity
        metrics.ASSOCIATIONS.labels(entity.aet).inc()
        return associate(entity.ip, entity.port, entity.aet, self._calling, proposals, self._silence, begin)

    def _work(self, requester: Requester, proposals: Sequence[Proposal], work: Callable[[Requester], _Result]) -> _Result:
        try:
            return work(requester)
        finally:
            requester.begin = None
            requester.is_waited_for = lambda: False
            if requester.is_idle:
                self._idle.append(_Idle(requester, proposals, time.monotonic()))
            else:
                requester.close()

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._turns.acquire(), self._patience)
        except asyncio.TimeoutError:
            raise RequestError(503, f"{self.name} has all of its {self._most} associations in use: try again later.") from None
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._turns.release()

    def _take_idle(self, proposals: Sequence[Proposal]) -> Requester | None:
        for idle in reversed(self._idle):
            if idle.proposals == proposals:
                self._idle.remove(idle)
                if idle.requester.is_quiet():
                    return idle.requester
                idle.requester.close()
        return None

    async def _make_room(self) -> None:
        while self._idle and self.associations > self._most:
            await self._in_thread(self._idle.pop(0).requester.close)

    async def tidy(self) -> None:
        """Release associations that nobody has used for a while."""
        old = [idle for idle in self._idle if time.monotonic() - idle.since > _IDLE_SECONDS]
        for idle in old:
            self._idle.remove(idle)
            await self._in_thread(idle.requester.close)

    async def close(self) -> None:
        """Release all associations that are idle."""
        while self._idle:
            await self._in_thread(self._idle.pop().requester.close)

    async def echo(self) -> str:
        """Return why it doesn't answer a C-ECHO, or nothing."""
        try:
            status = await self.run(FIND, Requester.echo)
        except RequestError as error:
            return error.message
        return f"{self.name} answers C-ECHO with status 0x{status:04X}" if status else ""

    def _translated(self, error: BrokenError) -> RequestError:
        if isinstance(error, SilentError):
            return RequestError(504, f"{self.name} doesn't answer any more.")
        if isinstance(error, UnreachableError):
            return RequestError(504 if "timed out" in str(error) else 502, f"{self.name} can't be reached: {error}.")
        if isinstance(error, RejectedError):
            return RequestError(
                503 if error.is_transient else 502, f"{self.name} rejects the association of {self._calling}: {error}."
            )
        return RequestError(502, f"{self.name}: {error}.")
