"""Workitems as rows."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from dicomweb.dataset import Dataset, first
from dicomweb.errors import RequestError
from psycopg.types.json import Jsonb
from service.database import Connection

from upsrs import states, tags
from upsrs.search import Condition, times_of

# Held in common by whoever changes a workitem, alone by whoever changes a subscription to a worklist: else a workitem and a
# subscription that are made at the same moment would miss each other.
_WORKLIST_LOCK = 0x5750


@dataclass(frozen=True)
class Workitem:
    """A workitem that exists; `transaction_uid` is its performer's, and stays after the final state."""

    uid: str
    dataset: Dataset
    transaction_uid: str | None

    @property
    def state(self) -> str:
        """One of `states.STATES`."""
        return str(first(self.dataset, tags.STATE))


async def share_worklists(connection: Connection) -> None:
    """Keep subscriptions to worklists as they are until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_WORKLIST_LOCK,))


async def lock_worklists(connection: Connection) -> None:
    """Keep all workitems as they are until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_WORKLIST_LOCK,))


async def insert(connection: Connection, uid: str, dataset: Dataset) -> None:
    """Keep a new workitem; raise RequestError (409) where its UID is, or was, another's."""
    cursor = await connection.execute(
        """INSERT INTO workitems (uid, dataset, scheduled_start, modified, expected_completion)
           VALUES (%(uid)s, %(dataset)s, %(scheduled_start)s, %(modified)s, %(expected_completion)s)
           ON CONFLICT (uid) DO NOTHING""",
        {"uid": uid, "dataset": Jsonb(dataset)} | times_of(dataset),
    )
    if not cursor.rowcount:
        raise RequestError(409, f"A workitem {uid} exists already.")


async def fetch(connection: Connection, uid: str, *, lock: bool = False) -> Workitem:
    """Return a workitem, with `lock` for this transaction alone; raise RequestError (404, or 410 where it was deleted)."""
    cursor = await connection.execute(
        f"SELECT dataset, transaction_uid, deleted_at IS NOT NULL FROM workitems WHERE uid = %s {'FOR UPDATE' if lock else ''}",
        (uid,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise RequestError(404, f"There is no workitem {uid}.")
    if row[2]:
        raise RequestError(410, f"The workitem {uid} was deleted.")
    return Workitem(uid, row[0], row[1])


async def save(connection: Connection, workitem: Workitem, now: datetime.datetime) -> None:
    """Keep a workitem's new content."""
    await connection.execute(
        """UPDATE workitems SET dataset = %(dataset)s, transaction_uid = %(transaction_uid)s, scheduled_start = %(scheduled_start)s,
               modified = %(modified)s, expected_completion = %(expected_completion)s, finished_at = %(finished_at)s
           WHERE uid = %(uid)s""",
        {
            "uid": workitem.uid,
            "dataset": Jsonb(workitem.dataset),
            "transaction_uid": workitem.transaction_uid,
            "finished_at": now if workitem.state in states.FINAL else None,
        }
        | times_of(workitem.dataset),
    )


async def find(connection: Connection, wanted: Condition, limit: int, offset: int, countable: int) -> tuple[list[Dataset], int]:
    """Return the workitems that meet a condition, the oldest first, and how many more there are beyond `limit`.

    Not more than `countable` of these are counted: to count them all would take longer than to find the first.
    """
    cursor = await connection.execute(
        f"SELECT dataset FROM workitems WHERE deleted_at IS NULL AND {wanted.sql} ORDER BY id LIMIT %s OFFSET %s",
        (*wanted.values, limit + 1, offset),
    )
    found = [row[0] for row in await cursor.fetchall()]
    if len(found) <= limit:
        return found, 0
    cursor = await connection.execute(
        f"SELECT count(*) FROM (SELECT FROM workitems WHERE deleted_at IS NULL AND {wanted.sql} LIMIT %s) w",
        (*wanted.values, offset + limit + countable),
    )
    row = await cursor.fetchone()
    return found[:limit], (row[0] if row else 0) - offset - limit


async def delete_finished(connection: Connection, before: datetime.datetime, most: int) -> int:
    """Delete up to `most` workitems that were finished before a time and that no deletion lock holds; return how many."""
    cursor = await connection.execute(
        """WITH old AS (
               SELECT uid FROM workitems w WHERE deleted_at IS NULL AND finished_at < %s
               AND NOT EXISTS (SELECT FROM workitem_subscriptions s WHERE s.uid = w.uid AND s.deletion_lock)
               ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED),
           unsubscribed AS (DELETE FROM workitem_subscriptions WHERE uid IN (SELECT uid FROM old))
           UPDATE workitems SET dataset = '{}', transaction_uid = NULL, deleted_at = now() WHERE uid IN (SELECT uid FROM old)""",
        (before, most),
    )
    return cursor.rowcount
