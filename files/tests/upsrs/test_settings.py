from __future__ import annotations

import ast
import os
import subprocess
import sys

import psycopg
import pytest
from servers import SOURCES, Postgres, Service, with_sources
from service.settings import read_settings
from upsrs.database import migrate
from upsrs.settings import Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYUPSRS_PORT", "70000"),
        ("PYUPSRS_WORKERS", "none"),
        ("PYUPSRS_EMPTY_SEARCH_STATUS", "500"),
        ("PYUPSRS_AE_TITLE", "MUCH-TOO-LONG-A-NAME"),
        ("PYUPSRS_SUBSCRIBERS", "GOOD,MUCH-TOO-LONG-A-NAME"),
        ("PYUPSRS_STRICT", "perhaps"),
        ("PYUPSRS_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("PYUPSRS_DATABASE_URI", "dbname=secret password=secret")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name) as refused:
        read_settings(Settings)
    assert "secret" not in str(refused.value)


def test_a_missing_setting_ends_the_service() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYUPSRS_")} | {
        "PYTHONPATH": str(SOURCES)
    }
    done = subprocess.run([sys.executable, "-m", "upsrs"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "PYUPSRS_DATABASE_URI: Field required"


def test_the_schema_is_made_once_and_a_newer_one_refused(postgres: Postgres) -> None:
    uri = postgres.make_database("schema")
    before, newest = migrate(uri)
    assert before is None
    assert migrate(uri) == (newest, newest)
    with psycopg.connect(uri) as connection:
        connection.execute("UPDATE schema_version SET version_num = '9999'")
    with pytest.raises(RuntimeError, match="9999"):
        migrate(uri)
    with psycopg.connect(uri) as connection:
        assert connection.execute("SELECT count(*) FROM workitems").fetchone() == (0,)


def test_many_processes_migrate_at_once(postgres: Postgres) -> None:
    uri = postgres.make_database("at_once")
    program = f"from upsrs.database import migrate; print(migrate({uri!r}))"
    environment = with_sources()
    running = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    revisions = [ast.literal_eval(process.communicate(timeout=60)[0]) for process in running]
    newest = max(after for _, after in revisions)
    assert sorted(revisions, key=str) == [(newest, newest)] * 3 + [(None, newest)]


def test_the_log_has_uids_and_no_patient(postgres: Postgres) -> None:
    from worklist_client import Client, element

    service = Service(postgres.make_database("log"), PYUPSRS_WORKERS="1")
    client = Client(service.url)
    try:
        uid = client.created(T00100010=element("PN", {"Alphabetic": "SECRETIVE^NAME"}), T00100020=element("LO", "SECRET-ID"))
        client.search("?PatientName=SECRETIVE*&PatientID=SECRET-ID")
        client.search("?PatientBirthDate=SECRET-a-b")
        client.change_state(uid, "IN PROGRESS", "2.25.5555555555")
    finally:
        service.stop()
    text = service.log.read_text()
    assert uid in text and "SECRET" not in text and "5555555555" not in text
