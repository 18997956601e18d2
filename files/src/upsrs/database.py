"""The database: its schema, and transactions that outlive its restart."""

from __future__ import annotations

import asyncio
import datetime
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dicomweb.errors import RequestError
from psycopg import errors
from psycopg_pool import PoolTimeout
from service.database import Connection, Pool, took_too_long, unavailable

Result = TypeVar("Result")

_MIGRATION_LOCK = 0x55505352
_RETRIED = (errors.SerializationFailure, errors.DeadlockDetected)


def migrate(uri: str) -> tuple[str | None, str]:
    """Bring the schema to this version, one process at a time; return the revisions before and after.

    Raises psycopg.OperationalError where the database can't be reached, RuntimeError where its schema is of a newer version.
    """
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(uri, connect_timeout=10))
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    head = ScriptDirectory.from_config(configuration).get_current_head()
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
            before = MigrationContext.configure(connection, opts={"version_table": "schema_version"}).get_current_revision()
            if before is not None and before not in {script.revision for script in _scripts(configuration)}:
                raise RuntimeError(
                    f"The database's schema is of revision {before}, which this version doesn't know: install a newer one."
                )
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            connection.commit()
    except sqlalchemy.exc.DBAPIError as error:
        raise (error.orig if isinstance(error.orig, psycopg.OperationalError) else error) from None
    finally:
        engine.dispose()
    return before, str(head)


def _scripts(configuration: Config) -> Any:
    return ScriptDirectory.from_config(configuration).walk_revisions()


async def in_transaction(
    pool: Pool, work: Callable[[Connection], Awaitable[Result]], *, changes: bool = True, patience: float | None = None
) -> Result:
    """Run `work` in one transaction and commit it, once, also where the database is restarted meanwhile.

    Where the connection is lost during the commit, the database is asked what became of it. `work` may be called again, so it must
    change nothing but the database; one that only reads (not `changes`) has no commit to ask after. Raises RequestError (503) where
    the database stays away for `patience` seconds, by default the pool's, or a statement takes longer than the pool lets it.
    """
    deadline = time.monotonic() + (pool.timeout if patience is None else patience)
    while True:
        token: uuid.UUID | None = None
        try:
            async with pool.connection(timeout=patience) as connection, connection.transaction():
                result = await work(connection)
                if changes:
                    token = await _leave_token(connection)
            return result
        except PoolTimeout:
            raise unavailable() from None
        except _RETRIED:
            pass
        except errors.QueryCanceled:
            raise took_too_long() from None
        except psycopg.OperationalError:
            if token is not None and await _is_committed(pool, token):
                return result
        if time.monotonic() > deadline:
            raise unavailable()
        await asyncio.sleep(0.1)


async def forget_commits(connection: Connection, before: datetime.datetime) -> None:
    """Forget the tokens of changes that were made before a time: nobody waits for their answers any more."""
    await connection.execute("DELETE FROM commits WHERE token < %s", (_token(before, 0),))


def _token(time_of: datetime.datetime, number: int) -> uuid.UUID:
    """Return a token of 80 bits within its millisecond: the database sorts tokens by their time."""
    return uuid.UUID(int=(round(time_of.timestamp() * 1000) << 80) | number)


async def _leave_token(connection: Connection) -> uuid.UUID | None:
    """Leave a token with what a transaction has changed; return None where it has changed nothing."""
    token = _token(datetime.datetime.now(datetime.timezone.utc), secrets.randbits(80))
    cursor = await connection.execute(
        "INSERT INTO commits (token) SELECT %s WHERE pg_current_xact_id_if_assigned() IS NOT NULL", (token,)
    )
    return token if cursor.rowcount else None


async def _is_committed(pool: Pool, token: uuid.UUID) -> bool:
    """Return whether the transaction that left a token was committed, when it has ended.

    PostgreSQL's own pg_xact_status doesn't know: after a crash it gives a number that was lost to another transaction. To leave the
    token again waits until the transaction that left it has ended, and is refused where that was committed.
    """
    deadline = time.monotonic() + pool.timeout
    while time.monotonic() < deadline:
        try:
            async with pool.connection() as connection, connection.transaction(force_rollback=True):
                cursor = await connection.execute("INSERT INTO commits (token) VALUES (%s) ON CONFLICT DO NOTHING", (token,))
                return cursor.rowcount == 0
        except PoolTimeout:
            break
        except psycopg.OperationalError:
            pass
        await asyncio.sleep(0.1)
    raise RequestError(503, "The database went away during the commit: ask for the workitem before you repeat the request.")
