"""What is named by its UID costs its own rows of Orthanc's index, also where the database knows nothing of the newest ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from archive_service import JSON, ArchiveService, indexed_orthanc
from datasets import Instance, ct_study
from servers import Postgres

FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
# Its plans are in the server's log, with the rows that each step had.
EXPLAINED = "session_preload_libraries=auto_explain", "auto_explain.log_min_duration=0", "auto_explain.log_format=json"
SETTINGS = " ".join(f"-c {setting}" for setting in (*EXPLAINED, "auto_explain.log_analyze=on", "auto_explain.log_timing=off"))
OTHERS = 5_000
MANY = """
INSERT INTO resources (internalid, resourcetype, publicid, parentid)
  SELECT base + 3 * number + level, level + 1, 'other-' || level || '-' || number,
    CASE level WHEN 0 THEN patient ELSE base + 3 * number + level - 1 END
  FROM (SELECT max(internalid) + 1 AS base, min(internalid) FILTER (WHERE resourcetype = 0) AS patient FROM resources) AS known,
    generate_series(1, %(others)s) AS number, generate_series(0, 2) AS level;
INSERT INTO dicomidentifiers (id, taggroup, tagelement, value)
  SELECT internalid, tag.taggroup, tag.tagelement, '2.25.9' || internalid
  FROM resources JOIN (VALUES (1, 32, 13), (2, 32, 14), (3, 8, 24)) AS tag (level, taggroup, tagelement) ON tag.level = resourcetype
  WHERE publicid LIKE 'other-%%';
INSERT INTO maindicomtags (id, taggroup, tagelement, value)
  SELECT id, taggroup, tagelement, value FROM dicomidentifiers WHERE value LIKE '2.25.9%%' ON CONFLICT DO NOTHING;
INSERT INTO metadata (id, type, value, revision)
  SELECT internalid, type, '1.2.840', 0 FROM resources, generate_series(9, 10) AS type
  WHERE publicid LIKE 'other-%%' AND resourcetype = 3;
INSERT INTO attachedfiles
  SELECT (jsonb_populate_record(NULL::attachedfiles, to_jsonb(known) || jsonb_build_object('id', internalid))).*
  FROM resources, (SELECT * FROM attachedfiles LIMIT 1) AS known WHERE publicid LIKE 'other-%%' AND resourcetype = 3;
"""
LARGEST = 100


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    return ct_study(3, tmp_path_factory.mktemp("study"), 16, PatientID="C0ST")


@pytest.fixture(scope="module")
def grown(postgres: Postgres, study: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArchiveService]:
    """An archive whose index has grown ten thousandfold since the database last looked."""
    orthanc = indexed_orthanc(tmp_path_factory.mktemp("orthanc"), postgres, "cost")
    service = ArchiveService(tmp_path_factory.mktemp("service"), orthanc, f"{postgres.uri('cost')} options='{SETTINGS}'")
    for instance in study:
        orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60).raise_for_status()
    with psycopg.connect(postgres.uri("cost"), autocommit=True) as connection:
        for table in ("resources", "dicomidentifiers", "maindicomtags", "metadata", "attachedfiles"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        connection.execute("ANALYZE")
        for statement in filter(str.strip, MANY.split(";\n")):
            connection.execute(statement, {"others": OTHERS} if "%(others)s" in statement else {})
    yield service
    service.stop()
    orthanc.stop()


def steps(node: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield how many rows each step of a plan went through, and what it was."""
    through = node["Actual Rows"] + sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    yield through * node["Actual Loops"], node["Node Type"]
    for below in node.get("Plans", ()):
        yield from steps(below)


def plans(log: str) -> Iterator[dict[str, Any]]:
    for text in log.split("plan:\n")[1:]:
        yield json.JSONDecoder().raw_decode(text.replace("\n\t", "\n").lstrip())[0]["Plan"]


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("{instance}/frames/1", FRAMES),
        ("{instance}/metadata", JSON),
        ("{study}/metadata", JSON),
        ("{study}/series", JSON),
        ("{study}/instances", JSON),
        ("{series}/instances?limit=2", JSON),
        ("/studies?StudyInstanceUID={uid}", JSON),
        ("/studies?PatientID=C0ST", JSON),
    ],
)
def test_a_name_leads_to_its_own_rows(
    grown: ArchiveService, postgres: Postgres, study: list[Instance], path: str, accept: str
) -> None:
    log = postgres.directory / "log"
    instance = study[0].url
    names = {"instance": instance, "series": instance.partition("/instances")[0], "study": instance.partition("/series")[0]}
    before = log.stat().st_size
    answer = grown.get(path.format(**names, uid=study[0].dataset.StudyInstanceUID), accept)
    assert answer.status_code == 200
    with log.open() as file:
        file.seek(before)
        made = list(plans(file.read()))
    assert made
    assert max(step for plan in made for step in steps(plan))[0] < LARGEST, made
