from __future__ import annotations

from connection_string import connection_string

DATABASE = {"host": "db", "name": "pyupsrs", "user": "pyupsrs", "password": "a'b\\c d"}


def test_values_are_quoted() -> None:
    assert connection_string(DATABASE, "/ca") == r"host='db' port='5432' dbname='pyupsrs' user='pyupsrs' password='a\'b\\c d'"


def test_the_server_is_verified_where_its_authority_is_known() -> None:
    assert connection_string({**DATABASE, "ca": "ca.crt", "port": 5433}, "/ca").endswith(" sslmode='verify-full' sslrootcert='/ca'")
