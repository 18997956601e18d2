"""Who hears of which workitem (PS3.4 CC.2.3, Table CC.2.3-2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicomweb.dataset import Dataset
from dicomweb.errors import RequestError
from dicomweb.query import Matching
from psycopg.types.json import Jsonb
from service.database import Connection

from upsrs import events, outbox, search, store, tags


async def subscribe_to_workitem(connection: Connection, uid: str, aetitle: str, lock: bool) -> list[str]:
    """Subscribe to one workitem, or change the lock of a subscription; its state is reported at once. Return whom to wake."""
    workitem = await store.fetch(connection, uid, lock=True)
    await connection.execute(
        """INSERT INTO workitem_subscriptions (uid, aetitle, deletion_lock, worklist) VALUES (%s, %s, %s, '')
           ON CONFLICT (uid, aetitle) DO UPDATE SET deletion_lock = excluded.deletion_lock, worklist = ''""",
        (uid, aetitle, lock),
    )
    await outbox.add_for(connection, [aetitle], [events.state_report(uid, workitem.dataset)])
    return [aetitle]


async def subscribe_to_worklist(connection: Connection, worklist: str, aetitle: str, lock: bool, matching: Matching) -> list[str]:
    """Subscribe to the workitems that match, those that are there and those to come; return whom to wake.

    With a lock, to each that isn't subscribed to yet, with a report of its state. Without one nothing is reported, and workitems in
    a final state, which have no more to tell, are left out: they may be very many.
    """
    wanted = search.condition(matching)
    await store.lock_worklists(connection)
    await connection.execute(
        """INSERT INTO worklist_subscriptions (aetitle, worklist, deletion_lock, filter) VALUES (%s, %s, %s, %s)
           ON CONFLICT (aetitle, worklist)
           DO UPDATE SET deletion_lock = excluded.deletion_lock, filter = excluded.filter, suspended = false""",
        (aetitle, worklist, lock, Jsonb(matching)),
    )
    cursor = await connection.execute(
        f"""WITH made AS (
                INSERT INTO workitem_subscriptions (uid, aetitle, deletion_lock, worklist)
                SELECT uid, %s, %s, %s FROM workitems
                WHERE deleted_at IS NULL AND (%s OR finished_at IS NULL) AND {wanted.sql} ORDER BY id
                ON CONFLICT DO NOTHING RETURNING uid)
            SELECT uid, dataset FROM made JOIN workitems USING (uid) ORDER BY id""",
        (aetitle, lock, worklist, lock, *wanted.values),
    )
    if lock:
        await outbox.add_for(connection, [aetitle], [events.state_report(uid, dataset) async for uid, dataset in cursor])
    return [aetitle]


async def unsubscribe(connection: Connection, uid: str, aetitle: str) -> None:
    """End a subscription: the global worklist's with all others of that AE, the filtered one's with those that it made.

    Raises RequestError (404) where there is none.
    """
    if uid not in tags.WORKLISTS:
        await store.fetch(connection, uid)
        cursor = await connection.execute("DELETE FROM workitem_subscriptions WHERE uid = %s AND aetitle = %s", (uid, aetitle))
        found = cursor.rowcount
    else:
        await store.lock_worklists(connection)
        every = uid == tags.GLOBAL_WORKLIST
        listed = "DELETE FROM worklist_subscriptions WHERE aetitle = %s AND (worklist = %s OR %s)"
        single = "DELETE FROM workitem_subscriptions WHERE aetitle = %s AND (worklist = %s OR %s)"
        found = (await connection.execute(listed, (aetitle, uid, every))).rowcount
        found += (await connection.execute(single, (aetitle, uid, every))).rowcount
    if not found:
        raise RequestError(404, f"{aetitle} is not subscribed to {uid}.")


async def suspend(connection: Connection, worklist: str, aetitle: str) -> None:
    """Subscribe to no further workitems; what is subscribed stays. Raises RequestError (404) where there is no subscription."""
    await store.lock_worklists(connection)
    cursor = await connection.execute(
        "UPDATE worklist_subscriptions SET suspended = true WHERE aetitle = %s AND worklist = %s", (aetitle, worklist)
    )
    if not cursor.rowcount:
        raise RequestError(404, f"{aetitle} is not subscribed to the worklist {worklist}.")


async def follow(connection: Connection, uid: str, content: Sequence[Dataset]) -> list[str]:
    """Subscribe those to a new or changed workitem whose worklist it belongs to and who aren't yet.

    Each of them is left `content`, the events that tell what it is now. Return whom to wake.
    """
    cursor = await connection.execute(
        """SELECT aetitle, worklist, deletion_lock, filter FROM worklist_subscriptions l WHERE NOT suspended
           AND NOT EXISTS (SELECT FROM workitem_subscriptions s WHERE s.uid = %s AND s.aetitle = l.aetitle)
           ORDER BY aetitle, worklist""",
        (uid,),
    )
    made: dict[str, tuple[Any, ...]] = {}
    for aetitle, worklist, lock, matching in await cursor.fetchall():
        if aetitle not in made and (not matching or await _matches(connection, uid, matching)):
            made[aetitle] = (uid, aetitle, lock, worklist)
    if made:
        async with connection.cursor() as inserting:
            await inserting.executemany(
                "INSERT INTO workitem_subscriptions (uid, aetitle, deletion_lock, worklist) VALUES (%s, %s, %s, %s)",
                list(made.values()),
            )
        await outbox.add_for(connection, list(made), content)
    return list(made)


async def _matches(connection: Connection, uid: str, matching: Matching) -> bool:
    wanted = search.condition(matching)
    cursor = await connection.execute(f"SELECT FROM workitems WHERE uid = %s AND {wanted.sql}", (uid, *wanted.values))
    return await cursor.fetchone() is not None


async def performer_hears(connection: Connection, uid: str) -> bool:
    """Return whether anybody is subscribed to a workitem."""
    cursor = await connection.execute("SELECT FROM workitem_subscriptions WHERE uid = %s LIMIT 1", (uid,))
    return await cursor.fetchone() is not None


async def report_status(connection: Connection, status: str, listed: Sequence[str]) -> list[str]:
    """Leave an SCP Status Change for every subscriber and for those that are `listed`; return whom to wake."""
    cursor = await connection.execute("SELECT aetitle FROM worklist_subscriptions UNION SELECT aetitle FROM workitem_subscriptions")
    aetitles = sorted({row[0] for row in await cursor.fetchall()} | set(listed))
    await outbox.add_for(connection, aetitles, [events.scp_status_change(status)])
    return aetitles
