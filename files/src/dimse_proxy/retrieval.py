"""Fetches instances from an archive onto the disk, and tells those who wait for them as they come (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from dicomweb.errors import RequestError
from dicomweb.instances import Instance, Scope, Source
from dimse.scu import CANCELLED, Requester
from dimse.upper_layer import COMPLETED, FAILED, REMAINING, WARNINGS, Begun, Response
from service.directory import Directory

from dimse_proxy import metrics
from dimse_proxy.arrivals import Arrival
from dimse_proxy.identifiers import identifier
from dimse_proxy.peers import MOVE, Peer
from dimse_proxy.proposals import get_proposals

_LOG = logging.getLogger("dimse_proxy")
# How long a peer may go on after it was asked to stop.
_CANCEL_SECONDS = 5.0
_OUT_OF_RESOURCES = (0xA700, 0xA701, 0xA702)
_DESTINATION_UNKNOWN = 0xA801


class Retrieval(Source):
    """One C-GET or C-MOVE, and what has come by it. It is cancelled when nobody waits for it any more."""

    def __init__(self, scope: Scope, peer: Peer, directory: Directory) -> None:
        super().__init__(scope)
        self.peer = peer
        self.directory = directory
        self.waiting = 0
        """How many answers need it."""
        self._loop = asyncio.get_running_loop()
        self._is_told = False
        self._numbers = itertools.count()
        self._uids: set[str] = set()
        self._beside = 0
        """Instances that came twice, or weren't asked for."""
        self._problems: list[str] = []
        self._last_progress = time.monotonic()
        self._requester: Requester | None = None
        self.is_cancelled = False
        self.is_settled = False
        """Whether what came has been kept, where it is to be."""

    def new_file(self) -> Path:
        """Return a name for a new file."""
        return self.directory.path / f"{next(self._numbers)}.dcm"

    def take(self, instance: Instance) -> bool:
        """Take an instance that begins to come; return whether it is part of what was asked for, and isn't there yet."""
        if instance.uid in self._uids or not self.scope.covers(instance.scope):
            self._beside += 1
            return False
        self._uids.add(instance.uid)
        if instance.path.parent != self.directory.path:
            instance.path = instance.path.rename(self.new_file())
        self.instances.append(instance)
        metrics.INSTANCES.labels(self.peer.entity.aet).inc()
        self._tell()
        return True

    def progress(self, instance: Instance) -> None:
        """Notice that there is more of an instance."""
        self._last_progress = time.monotonic()
        self._tell()

    def fail(self, problem: str) -> None:
        """Notice that an instance couldn't be taken."""
        self._problems.append(problem)

    def _tell(self) -> None:
        # One call for all that happens until the event loop comes round to it.
        if not self._is_told:
            self._is_told = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_told = False
        self.changed()

    async def get(self, sop_classes: Sequence[str]) -> None:
        """Fetch by C-GET."""

        def begin(begun: Begun) -> Arrival:
            return Arrival(begun, lambda study: self if study == self.scope.study else None, self.new_file)

        def work(requester: Requester) -> None:
            self._begin(requester)
            self._follow(requester.get(identifier(self.scope.level, _keys(self.scope))))

        await self._run(lambda: self.peer.run(get_proposals(sop_classes), work, begin))

    async def move(self, destination: str, message: int, silence_seconds: float) -> None:
        """Fetch by C-MOVE with that Message ID, to the entity of that title."""

        def work(requester: Requester) -> None:
            self._begin(requester)
            # What comes, comes by another association: as long as something does, this one may be silent.
            requester.is_waited_for = lambda: time.monotonic() - self._last_progress < silence_seconds
            self._follow(requester.move(identifier(self.scope.level, _keys(self.scope)), destination, message))

        await self._run(lambda: self.peer.run(MOVE, work))

    async def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        began = time.monotonic()
        try:
            await run()
        except Exception as error:
            self.error = (
                error if isinstance(error, RequestError) else RequestError(500, "The proxy failed; its log has the reason.")
            )
            if not isinstance(error, RequestError):
                _LOG.exception("retrieval %s", self.scope)
        seconds = time.monotonic() - began
        if self.error:
            _LOG.warning("%s broke off after %d instances, %.2f s: %s", self.scope, len(self.instances), seconds, self.error)
        else:
            _LOG.info("%s fetched from %s: %d instances in %.2f s", self.scope, self.peer.entity.aet, len(self.instances), seconds)
        self.is_done = True
        self.changed()

    def _begin(self, requester: Requester) -> None:
        """Have an association; raise RequestError where nobody waits for it any more."""
        self._requester = requester
        if self.is_cancelled:
            raise self._cancelled()

    def _cancelled(self) -> RequestError:
        return RequestError(502, f"{self.peer.name}: cancelled.")

    def _follow(self, answers: Iterator[Response]) -> None:
        """Take the answers to the end; raise RequestError where not all came that was asked for."""
        response = None
        announced = 0
        for response in answers:
            announced = max(announced, sum(response.count(element) or 0 for element in (REMAINING, COMPLETED, FAILED, WARNINGS)))
        assert response
        name = self.peer.name
        if self.is_cancelled or response.status == CANCELLED:
            raise self._cancelled()
        failed, warned = response.count(FAILED) or 0, response.count(WARNINGS) or 0
        completed = response.count(COMPLETED)
        whole = sum(instance.state == "whole" for instance in self.instances)
        if response.status in _OUT_OF_RESOURCES:
            raise RequestError(
                503, f"{name} has no resources for it (status 0x{response.status:04X}) {response.comment}".rstrip() + "."
            )
        if response.status == _DESTINATION_UNKNOWN:
            raise RequestError(
                502, f"{name} doesn't know this proxy as a destination of C-MOVE: enter its AE title, address and port there."
            )
        if response.status or failed:
            why = next(iter(self._problems), response.comment or "it gives no reason")
            raise RequestError(502, f"{name} could not send {failed or 'all'} instances, status 0x{response.status:04X}: {why}.")
        if self._problems or whole < len(self.instances):
            raise RequestError(502, f"{name}: {next(iter(self._problems), 'an instance broke off')}.")
        if completed is not None and whole + self._beside < completed + warned:
            raise RequestError(502, f"{name} says that it sent {completed + warned} instances, of which {whole} came.")
        if whole + self._beside < announced:
            raise RequestError(502, f"{name} announced {announced} instances, of which {whole} came.")

    async def cancel(self) -> None:
        """Have the peer stop, and the association ended where it doesn't."""
        self.is_cancelled = True
        requester = self._requester
        if not requester or self.is_done:
            return
        with contextlib.suppress(Exception):
            await asyncio.to_thread(requester.cancel)
        for _ in range(int(_CANCEL_SECONDS / 0.05)):
            if self.is_done:
                return
            await asyncio.sleep(0.05)
        await asyncio.to_thread(requester.close)


def _keys(scope: Scope) -> dict[str, str]:
    keys = {"0020000D": scope.study, "0020000E": scope.series, "00080018": scope.instance}
    return {tag: value for tag, value in keys.items() if value}
