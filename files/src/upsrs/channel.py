"""Notification channels (PS3.18 11.13): each event to its subscriber once, in order, and kept until it was read.

A WebSocket answers a ping only after it has taken all that was sent before it: the pong to a ping that follows some events is their
acknowledgement, and until it comes they stay in the outbox.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable

import anyio
import psycopg
from dicomweb.dataset import write_json
from psycopg_pool import PoolTimeout
from service.database import Pool
from starlette.websockets import WebSocket, WebSocketDisconnect

from upsrs import metrics, outbox
from upsrs.database import in_transaction
from upsrs.names import checked_ae_title
from upsrs.protocols import EXTENSION

_LOG = logging.getLogger("upsrs.channel")

_BATCH = 64
# Seconds after which a worker looks for events that nobody told it of.
_LOOK_INTERVAL = 5.0


class _Channel:
    """One subscriber's connection."""

    def __init__(self, aetitle: str, websocket: WebSocket) -> None:
        self.aetitle = aetitle
        self.token = secrets.token_hex(8)
        self.websocket = websocket
        self.waiting: asyncio.Queue[outbox.Waiting] = asyncio.Queue()
        self.under_way: set[int] = set()
        self.taken = asyncio.Event()


class Dispatcher:
    """Brings the events of a worker's channels from the outbox to them."""

    def __init__(self, pool: Pool, uri: str, acknowledge_seconds: float) -> None:
        self._pool = pool
        self._uri = uri
        self._patience = acknowledge_seconds
        self._channels: dict[str, _Channel] = {}
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._read: list[int] = []

    async def run(self) -> None:
        """Listen and dispatch until cancelled; go on where the database was away."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._persist, self._listen)
            group.start_soon(self._persist, self._dispatch)
            group.start_soon(self._persist, self._look)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (psycopg.Error, PoolTimeout) as error:
                _LOG.warning("database away: %s", type(error).__name__)
            except Exception:
                # The channels must outlive a fault of ours: what it was, the log says.
                _LOG.exception("channels disturbed")
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._uri, autocommit=True, connect_timeout=5, application_name="pyupsrs listen"
        )
        async with connection:
            await connection.execute(f"LISTEN {outbox.CHANNEL}")
            self._make_due(self._channels)
            async for notice in connection.notifies():
                self._make_due(notice.payload.split("\n") if notice.payload else self._channels)

    def _make_due(self, aetitles: Iterable[str]) -> None:
        self._due |= set(aetitles) & set(self._channels)
        if self._due:
            self._wake.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            self._make_due(self._channels)
            await self._close_taken()

    async def _close_taken(self) -> None:
        channels = [(channel.aetitle, channel.token) for channel in self._channels.values()]
        if channels:
            async with self._pool.connection() as connection:
                for aetitle in await outbox.stale_channels(connection, channels):
                    taken = self._channels.get(aetitle)
                    if taken is not None and (aetitle, taken.token) in channels:
                        taken.taken.set()

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            try:
                await self._bring(due)
            except BaseException:
                self._make_due(due)
                raise

    async def _bring(self, due: set[str]) -> None:
        read, self._read = self._read, []
        waiting = {aetitle: channel.under_way.difference(read) for aetitle, channel in self._channels.items() if aetitle in due}
        channels = [self._channels[aetitle] for aetitle, numbers in waiting.items() if len(numbers) < _BATCH]
        if not channels and not read:
            return
        under_way = [number for channel in channels for number in waiting[channel.aetitle]]
        wanted = [(channel.aetitle, channel.token, _BATCH - len(waiting[channel.aetitle])) for channel in channels]
        try:
            async with self._pool.connection() as connection:
                if read:
                    await outbox.remove(connection, read)
                events = await outbox.fetch(connection, wanted, under_way) if wanted else []
        except BaseException:
            self._read += read
            raise
        for channel in self._channels.values():
            channel.under_way.difference_update(read)
        for event in events:
            holder = self._channels.get(event.aetitle)
            if holder in channels and holder is not None:
                holder.under_way.add(event.id)
                holder.waiting.put_nowait(event)

    async def serve(self, websocket: WebSocket, aetitle: str) -> None:
        """Be a subscriber's channel until it goes, another connection takes its place, or it doesn't read."""
        channel = _Channel(checked_ae_title(aetitle), websocket)
        await in_transaction(self._pool, lambda connection: outbox.take_channel(connection, channel.aetitle, channel.token))
        await websocket.accept()
        former = self._channels.get(channel.aetitle)
        if former is not None:
            former.taken.set()
        self._channels[channel.aetitle] = channel
        metrics.CHANNELS.inc()
        _LOG.info("channel open aetitle=%r", channel.aetitle)
        self._make_due([channel.aetitle])
        try:
            async with anyio.create_task_group() as group:
                for work in (self._send, self._receive, self._yield_place):
                    group.start_soon(_first_to_end, work, channel, group.cancel_scope)
        finally:
            if self._channels.get(channel.aetitle) is channel:
                del self._channels[channel.aetitle]
            metrics.CHANNELS.dec()
            _LOG.info("channel closed aetitle=%r", channel.aetitle)

    async def _send(self, channel: _Channel) -> None:
        means = channel.websocket.scope["extensions"][EXTENSION]
        while True:
            events = [await channel.waiting.get()]
            while not channel.waiting.empty():
                events.append(channel.waiting.get_nowait())
            with anyio.move_on_after(self._patience) as scope:
                for event in events:
                    await channel.websocket.send_text(write_json(event.message))
                acknowledged = means["acknowledge"]()
                # As soon as it is known, also where the client has gone since and this task ends.
                acknowledged.add_done_callback(functools.partial(self._take, channel, events))
                await acknowledged
            if scope.cancelled_caught:
                _LOG.warning("channel broken off aetitle=%r: it has not read for %g s", channel.aetitle, self._patience)
                means["abort"]()
                return

    def _take(self, channel: _Channel, events: list[outbox.Waiting], acknowledged: asyncio.Future[None]) -> None:
        """Note events that were read, to be forgotten."""
        if not acknowledged.cancelled() and acknowledged.exception() is None:
            metrics.EVENTS_DELIVERED.inc(len(events))
            self._read += [event.id for event in events]
            self._due.add(channel.aetitle)
            self._wake.set()

    async def _receive(self, channel: _Channel) -> None:
        # A subscriber has nothing to say: what it says is read, so that its pongs are, and dropped.
        while (await channel.websocket.receive())["type"] != "websocket.disconnect":
            pass

    async def _yield_place(self, channel: _Channel) -> None:
        await channel.taken.wait()
        await channel.websocket.close(4000, "another connection of this AE title has taken the channel")


async def _first_to_end(work: Callable[[_Channel], Awaitable[None]], channel: _Channel, scope: anyio.CancelScope) -> None:
    try:
        await work(channel)
    except (WebSocketDisconnect, ConnectionError, RuntimeError) as error:
        _LOG.debug("channel ends aetitle=%r: %s", channel.aetitle, type(error).__name__)
    scope.cancel()
