"""A pool of connections to PostgreSQL, which may be away for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dicomweb.errors import RequestError
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]


def make_pool(
    uri: str,
    name: str,
    most: int,
    patience: float,
    statement_seconds: float = 0,
    configure: Callable[[Connection], Awaitable[None]] | None = None,
) -> Pool:
    """Return a pool, not yet open, of at most `most` connections of the application `name`.

    No statement takes longer than `statement_seconds` (0: any). `patience` is how long whoever wants a connection waits for a
    database that is away, in seconds. A connection that a restart of the database has ended is lent all the same, and found out by
    who uses it: the pool's own check waits longer after each that it finds, up to the whole patience. `configure` is called with
    each connection that is made.
    """
    # Compiling a search takes longer than the search, and a client's keys decide how much there is to compile.
    defaults = {
        "options": f"-c jit=off -c statement_timeout={round(statement_seconds * 1000)}",
        "connect_timeout": 5,
        "application_name": name,
    }
    given = conninfo_to_dict(uri)
    kept = {key: value for key, value in defaults.items() if key not in given}
    return AsyncConnectionPool(
        uri, min_size=min(2, most), max_size=most, open=False, timeout=patience, kwargs=kept, configure=configure
    )


def unavailable() -> RequestError:
    """Return the error of a request that needs a database which is away."""
    return RequestError(503, "The database can't be reached: try again later.")


def took_too_long() -> RequestError:
    """Return the error of a request whose statement takes longer than the pool lets it."""
    return RequestError(503, "The database took too long over this: ask for less at a time, or later.")
