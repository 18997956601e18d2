"""Filter on a database, as roles are given it: how libpq reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def connection_string(database: Mapping[str, Any], authority: str) -> str:
    """Return libpq's connection string, its values quoted as it wants them.

    `authority` is the file that the server's certificate is verified by, where the database has a `ca`.
    """
    words = {
        "host": database["host"],
        "port": database.get("port") or 5432,
        "dbname": database["name"],
        "user": database["user"],
        "password": database["password"],
    }
    if database.get("ca"):
        words |= {"sslmode": "verify-full", "sslrootcert": authority}
    return " ".join(f"{word}='{_quoted(value)}'" for word, value in words.items())


def _quoted(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "\\'")


class FilterModule:
    """The filter, as Ansible asks for it."""

    def filters(self) -> dict[str, Any]:
        """Return it by name."""
        return {"connection_string": connection_string}
