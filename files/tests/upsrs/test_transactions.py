"""A change whose answer was lost: made once, whatever became of the connection and of the database."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from servers import Postgres
from service.database import Connection, make_pool
from upsrs.database import in_transaction, migrate

# A commit that takes some seconds where the first number is inserted.
SLOW_COMMIT = """
CREATE TABLE numbers (number integer);
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF NEW.number = 1 THEN PERFORM pg_sleep(3); END IF; RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


@pytest.fixture
def uri(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    uri = postgres.make_database(request.node.name)
    migrate(uri)
    with psycopg.connect(uri) as connection:
        connection.execute(SLOW_COMMIT)
    return uri


def numbers(uri: str) -> list[int]:
    with psycopg.connect(uri) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number").fetchall()]


def change(uri: str, during_the_commit: Callable[[Connection], None]) -> int:
    """Insert the number of the attempt, disturbed during the first one's commit; return the number of the last attempt."""
    attempts: list[int] = []

    def disturb(connection: Connection) -> None:
        deadline = time.monotonic() + 30
        with psycopg.connect(uri, autocommit=True) as other:
            while not other.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone():
                assert time.monotonic() < deadline
        during_the_commit(connection)

    async def work(connection: Connection) -> int:
        attempts.append(len(attempts) + 1)
        await connection.execute("INSERT INTO numbers VALUES (%s)", (attempts[-1],))
        if len(attempts) == 1:
            threading.Thread(target=disturb, args=(connection,), daemon=True).start()
        return attempts[-1]

    async def run() -> int:
        async with make_pool(uri, "pyupsrs", 2, 60) as pool:
            return await in_transaction(pool, work)

    return asyncio.run(run())


def test_a_crash_that_loses_a_commit(uri: str, postgres: Postgres) -> None:
    """Its transaction's number is another one's after the crash: asked by number, the database says that it was committed."""

    def crash(_: Connection) -> None:
        postgres.kill()
        postgres.start()
        with psycopg.connect(uri, autocommit=True) as other:
            for _attempt in range(20):
                other.execute("CREATE TABLE another (); DROP TABLE another")

    assert change(uri, crash) == 2
    assert numbers(uri) == [2]


def test_a_connection_that_is_lost_while_the_database_commits(uri: str) -> None:
    def cut(connection: Connection) -> None:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as link:
            link.shutdown(socket.SHUT_RDWR)

    assert change(uri, cut) == 1
    assert numbers(uri) == [1]


def test_a_session_that_is_ended_before_it_has_committed(uri: str) -> None:
    def end(connection: Connection) -> None:
        with psycopg.connect(uri, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.pgconn.backend_pid,))

    assert change(uri, end) == 2
    assert numbers(uri) == [2]
