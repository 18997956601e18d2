"""All peers as one archive: what they hold is found, and fetched from where it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dicomweb.errors import RequestError
from dicomweb.instances import Scope, Source
from dicomweb.levels import UID_KEYWORDS
from dimse.part10 import decoded
from dimse.scu import CANCELLED, PENDING, Requester
from dimse.storage_scp import StorageSCP
from dimse.upper_layer import Begun
from pydicom.dataset import Dataset

from dimse_proxy import metrics
from dimse_proxy.arrivals import Arrival
from dimse_proxy.cache import Cache
from dimse_proxy.config import Config
from dimse_proxy.identifiers import Keys, identifier
from dimse_proxy.peers import FIND, FUZZY_FIND, Peer
from dimse_proxy.retrieval import Retrieval

_LOG = logging.getLogger("dimse_proxy")
# How long it is remembered which peer has a study, and of which SOP classes it is.
_REMEMBERED_SECONDS = 60.0
_MOST_SERIES, _INSTANCES_OF_A_SERIES = 500, 20
_TIDY_SECONDS = 5.0
_CACHE_TIDY_SECONDS = 30.0


@dataclass
class Found:
    """The answers of the peers to a search: none twice. `problems` says which peers could not answer."""

    rows: list[Dataset] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_fuzzy: bool = True
    is_cut: bool = False
    """Whether there are more."""


class _Rows(NamedTuple):
    """A peer's rows, whether it matched fuzzily, and whether there are more."""

    rows: list[Dataset]
    is_fuzzy: bool
    is_cut: bool = False


@dataclass(frozen=True)
class _Place:
    peer: Peer
    sop_classes: tuple[str, ...]
    until: float


class Archive:
    """The peers, the cache, and what is being fetched."""

    def __init__(self, config: Config) -> None:
        self.config = config
        entities = config.dimse.peers
        self._threads = ThreadPoolExecutor(len(entities) * (config.associations + 2), thread_name_prefix="dimse")
        self.peers = [Peer(entity, config, self._threads) for entity in entities]
        root = config.storage_path
        self.cache = Cache(
            root, config.cache_retention_minutes * 60, config.cache_max_megabytes * 1_000_000, is_kept=config.enable_cache
        )
        self._spool = self.cache.new()
        self._numbers = itertools.count()
        self._messages = itertools.cycle(range(1, 0x10000))
        self.running: list[Retrieval] = []
        self._by_message: dict[int, Retrieval] = {}
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self) -> None:
        """Be the destination of C-MOVE from now on; raise OSError where that can't be."""
        own = self.config.dimse.proxy_server
        callers = tuple(peer.entity.aet for peer in self.peers)
        try:
            StorageSCP(own.aet, callers, self._begin, self.config.silence_seconds).listen(own.ip, own.port)
        except OSError as error:
            raise OSError(f"dimseProxySettings.proxyServer: {own.ip}:{own.port}: {error.strerror}") from None

    def _begin(self, begun: Begun) -> Arrival:
        asked = self._by_message.get(begun.originator)

        def taker(study: str) -> Retrieval | None:
            if asked and asked.scope.study == study:
                return asked
            # Not every archive says which C-MOVE an instance is sent for.
            return next((each for each in self.running if each.scope.study == study and not each.is_done), None)

        return Arrival(begun, taker, asked.new_file if asked else self.new_file)

    def new_file(self) -> Path:
        """Return a name for a new file, of no retrieval's."""
        return self._spool.path / f"{next(self._numbers)}.dcm"

    async def find(self, level: str, keys: Keys, most: int, *, is_fuzzy: bool = False) -> Found:
        """Ask all peers; raise RequestError where none of them can answer. At most `most` rows of each."""
        answers, errors = await self._find_at_all(identifier(level, keys), most, is_fuzzy=is_fuzzy)
        if not answers:
            raise errors[0]
        found = Found(problems=[error.message for error in errors])
        seen: set[str] = set()
        for _, answer in answers:
            found.is_fuzzy &= answer.is_fuzzy
            found.is_cut |= answer.is_cut
            for row in answer.rows:
                uid = str(row.get(UID_KEYWORDS[level]) or "")
                if uid not in seen:
                    seen.add(uid)
                    found.rows.append(row)
        return found

    async def _find_at_all(
        self, encode: Callable[[str], bytes], most: int, *, is_fuzzy: bool = False
    ) -> tuple[list[tuple[Peer, _Rows]], list[RequestError]]:
        """Return the answers of the peers that can answer, and what is wrong with the others."""
        searches = (self._find_at(peer, encode, most, is_fuzzy=is_fuzzy) for peer in self.peers)
        answers: list[tuple[Peer, _Rows]] = []
        errors: list[RequestError] = []
        for peer, answer in zip(self.peers, await asyncio.gather(*searches, return_exceptions=True), strict=True):
            if isinstance(answer, RequestError):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append((peer, answer))
        return answers, errors

    async def _find_at(self, peer: Peer, encode: Callable[[str], bytes], most: int, *, is_fuzzy: bool = False) -> _Rows:
        def work(requester: Requester) -> _Rows:
            rows: list[Dataset] = []
            with contextlib.closing(requester.find(encode)) as answers:
                for response in answers:
                    if response.status in PENDING:
                        if len(rows) >= most:
                            return _Rows(rows, requester.is_fuzzy, is_cut=True)
                        rows.append(decoded(response.identifier, response.syntax))
                    elif response.status not in (0, CANCELLED):
                        status = 503 if response.status == 0xA700 else 502
                        said = f"status 0x{response.status:04X} {response.comment}".rstrip()
                        raise RequestError(status, f"{peer.name} answers C-FIND with {said}.")
            return _Rows(rows, requester.is_fuzzy)

        try:
            return await peer.run(FUZZY_FIND if is_fuzzy else FIND, work)
        except ValueError as error:
            raise RequestError(502, f"{peer.name}: an answer that can't be read: {error}.") from None

    async def _place(self, study: str) -> _Place:
        """Return which peer has a study; raise RequestError (404) where none has."""
        known = self._places.get(study)
        if known and known.until > time.monotonic():
            return known
        keys = {"0020000D": study, "00080062": "", "00080061": ""}
        answers, errors = await self._find_at_all(identifier("STUDY", keys), 1)
        for peer, answer in answers:
            if answer.rows:
                classes = _texts(answer.rows[0], "SOPClassesInStudy")
                if not classes and self.config.use_cget:
                    classes = await self._classes_of_instances(peer, study)
                place = _Place(peer, tuple(sorted(classes)), time.monotonic() + _REMEMBERED_SECONDS)
                self._places = {uid: other for uid, other in self._places.items() if other.until > time.monotonic()}
                self._places[study] = place
                return place
        # It may be with the one that didn't answer.
        if errors:
            raise errors[0]
        raise RequestError(404, f"No archive has the study {study}.")

    async def _classes_of_instances(self, peer: Peer, study: str) -> set[str]:
        """Return the SOP classes of a study from its instances, for C-GET must name them; nothing where the peer doesn't tell."""
        found: set[str] = set()
        with contextlib.suppress(RequestError):
            keys = {"0020000D": study, "0020000E": ""}
            series = await self._find_at(peer, identifier("SERIES", keys), _MOST_SERIES)
            for row in series.rows:
                uid = next(iter(_texts(row, "SeriesInstanceUID")), "")
                below = keys | {"0020000E": uid, "00080018": "", "00080016": ""}
                # A series is of one class, but for a few that are of two.
                instances = await self._find_at(peer, identifier("IMAGE", below), _INSTANCES_OF_A_SERIES)
                for instance in instances.rows:
                    found |= _texts(instance, "SOPClassUID")
        return found

    @contextlib.asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[Source]:
        """Have a scope's instances, from the cache, from a retrieval that runs, or from a new one.

        At least one has begun to come. Raises RequestError where none does. Who leaves the last cancels the retrieval, unless he
        has what he asked for and the rest of its series or study is still coming into the cache.
        """
        kept = await asyncio.to_thread(self.cache.find, scope)
        if kept:
            directory, instances = kept
            metrics.CACHE_HITS.inc()
            try:
                yield Source(scope, instances)
            finally:
                directory.close()
            return
        retrieval = await self._retrieve(scope)
        retrieval.waiting += 1
        has_all = False
        try:
            async with contextlib.aclosing(retrieval.each(scope)) as instances_of_it:
                async for _ in instances_of_it:
                    break
                else:
                    raise RequestError(404, f"The archive has nothing of {scope}.")
            yield retrieval
            has_all = True
        finally:
            retrieval.waiting -= 1
            # One instance is there before the peer has said that it was all.
            is_over = retrieval.scope == scope and not scope.instance
            if not retrieval.waiting and (retrieval.is_done or not has_all or is_over):
                self._leave(retrieval)

    async def _retrieve(self, scope: Scope) -> Retrieval:
        place = await self._place(scope.study)
        for running in self.running:
            if running.scope.covers(scope) and not running.is_cancelled and not running.error:
                return running
        fetched = self._fetched(scope)
        retrieval = Retrieval(fetched, place.peer, self.cache.new())
        self.running.append(retrieval)
        self._spawn(self._fetch(retrieval, place))
        return retrieval

    def _fetched(self, scope: Scope) -> Scope:
        """Return what is fetched for a scope: as much as `useFetchLevel` says, where it can be kept."""
        level = self.config.use_fetch_level
        if level == "IMAGE" or not self.config.enable_cache or not scope.series:
            return scope
        return Scope(scope.study, scope.series if level == "SERIES" else "")

    async def _fetch(self, retrieval: Retrieval, place: _Place) -> None:
        if self.config.use_cget:
            await retrieval.get(place.sop_classes)
        else:
            message = next(number for number in self._messages if number not in self._by_message)
            self._by_message[message] = retrieval
            try:
                await retrieval.move(self.config.dimse.proxy_server.aet, message, self.config.silence_seconds)
            finally:
                del self._by_message[message]
        if not retrieval.error and retrieval.instances:
            try:
                await asyncio.to_thread(self.cache.keep, retrieval.scope, retrieval.instances)
            except OSError as error:
                _LOG.warning("%s is not kept: %s", retrieval.scope, error.strerror)
        retrieval.is_settled = True
        if not retrieval.waiting:
            self._leave(retrieval)

    def _leave(self, retrieval: Retrieval) -> None:
        """Nobody needs a retrieval any more."""
        if not retrieval.is_done:
            if not retrieval.is_cancelled:
                retrieval.is_cancelled = True
                self._spawn(retrieval.cancel())
            return
        if retrieval.is_settled and retrieval in self.running:
            self.running.remove(retrieval)
            self._spawn(asyncio.to_thread(retrieval.directory.remove))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def echo(self) -> list[str]:
        """Return which peers don't answer a C-ECHO, and why."""
        return [problem for problem in await asyncio.gather(*(peer.echo() for peer in self.peers)) if problem]

    async def tidy(self) -> None:
        """Release what nobody uses, now and then, until cancelled."""
        next_cache = 0.0
        while True:
            for peer in self.peers:
                await peer.tidy()
            if time.monotonic() > next_cache:
                await asyncio.to_thread(self.cache.tidy)
                next_cache = time.monotonic() + _CACHE_TIDY_SECONDS
            await asyncio.sleep(_TIDY_SECONDS)

    async def close(self) -> None:
        """End what runs, and release all associations."""
        await asyncio.gather(*(retrieval.cancel() for retrieval in self.running), return_exceptions=True)
        for peer in self.peers:
            await peer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._spool.remove()


def _texts(row: Dataset, keyword: str) -> set[str]:
    """Return the values of an attribute, one or many."""
    value = row.get(keyword) or []
    return {str(each) for each in ([value] if isinstance(value, str) else value) if each}
