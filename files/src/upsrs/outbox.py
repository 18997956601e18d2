"""Events that wait in the database until their subscriber has read them."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from dicomweb.dataset import Dataset, element
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout
from service.database import Connection, Pool

from upsrs import tags

CHANNEL = "upsrs_events"


@dataclass(frozen=True)
class Waiting:
    """An event on its way. Sent again after a lost connection it has the same Message ID, so a doublet can be told."""

    id: int
    aetitle: str
    dataset: Dataset

    @property
    def message(self) -> Dataset:
        """The event as it is sent."""
        return dict(sorted((self.dataset | {tags.MESSAGE_ID: element("US", self.id % 65535 + 1)}).items()))


async def add(connection: Connection, uid: str, events: Sequence[Dataset]) -> list[str]:
    """Leave events for all who are subscribed to a workitem; return their AE titles."""
    if not events:
        return []
    cursor = await connection.execute(
        """INSERT INTO events (aetitle, body) SELECT aetitle, body FROM unnest(%s::jsonb[]) WITH ORDINALITY e (body, number),
               (SELECT aetitle FROM workitem_subscriptions WHERE uid = %s ORDER BY aetitle) s ORDER BY number, aetitle
           RETURNING aetitle""",
        ([Jsonb(event) for event in events], uid),
    )
    return sorted({row[0] for row in await cursor.fetchall()})


async def add_for(connection: Connection, aetitles: Sequence[str], events: Sequence[Dataset]) -> None:
    """Leave events for some subscribers, whatever they are subscribed to."""
    async with connection.cursor() as cursor, cursor.copy("COPY events (aetitle, body) FROM STDIN") as copy:
        for event in events:
            for aetitle in aetitles:
                await copy.write_row((aetitle, Jsonb(event)))


async def announce(pool: Pool, aetitles: Sequence[str]) -> None:
    """Wake the workers that have the channels of these subscribers.

    After the commit and not within it: a NOTIFY makes commits wait for each other. One that is lost is made good by the workers'
    own look now and then.
    """
    if aetitles:
        text = "\n".join(aetitles)
        # What was to be told is committed: whoever asked for it must not be told that it failed.
        with contextlib.suppress(psycopg.OperationalError, PoolTimeout):
            async with pool.connection() as connection:
                # A payload has at most 8000 bytes; an empty one wakes all.
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, text if len(text) < 7000 else ""))


async def fetch(connection: Connection, channels: Sequence[tuple[str, str, int]], under_way: Sequence[int]) -> list[Waiting]:
    """Return what waits for these channels (AE title, connection, most events), the oldest first, but nothing under way already.

    A channel that is no longer its subscriber's last one gets nothing.
    """
    cursor = await connection.execute(
        """SELECT e.id, e.aetitle, e.body
           FROM unnest(%s::text[], %s::text[], %s::int[]) a (aetitle, connection, most)
           JOIN channels c ON c.aetitle = a.aetitle AND c.connection = a.connection
           CROSS JOIN LATERAL (SELECT id, aetitle, body FROM events WHERE aetitle = a.aetitle AND NOT id = ANY(%s)
                               ORDER BY id LIMIT a.most) e
           ORDER BY e.id""",
        (*(list(column) for column in zip(*channels, strict=True)), list(under_way)),
    )
    return [Waiting(*row) for row in await cursor.fetchall()]


async def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Forget events that were read."""
    await connection.execute("DELETE FROM events WHERE id = ANY(%s)", (list(ids),))


async def take_channel(connection: Connection, aetitle: str, token: str) -> None:
    """Make a connection the one that its subscriber's events go to."""
    await connection.execute(
        """INSERT INTO channels (aetitle, connection) VALUES (%s, %s)
           ON CONFLICT (aetitle) DO UPDATE SET connection = excluded.connection""",
        (aetitle, token),
    )


async def stale_channels(connection: Connection, channels: Sequence[tuple[str, str]]) -> list[str]:
    """Return the AE titles of those channels (AE title, connection) that another connection has taken."""
    cursor = await connection.execute(
        """SELECT a.aetitle FROM unnest(%s::text[], %s::text[]) a (aetitle, connection)
           JOIN channels c ON c.aetitle = a.aetitle AND c.connection <> a.connection""",
        tuple(list(column) for column in zip(*channels, strict=True)),
    )
    return [row[0] for row in await cursor.fetchall()]


async def delete_old(connection: Connection, before: datetime.datetime) -> int:
    """Forget events that have waited since before a time; return how many."""
    # As many as there are: not what a client asked for.
    await connection.execute("SET LOCAL statement_timeout = 0")
    return (await connection.execute("DELETE FROM events WHERE created_at < %s", (before,))).rowcount
