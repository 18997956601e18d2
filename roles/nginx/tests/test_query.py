"""The Perl module that nginx decodes queries with, run by the Perl of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parent.parent / "files"


def decoded(query: str) -> str:
    program = "use DicomwebQuery; print DicomwebQuery::decoded($ARGV[0]);"
    return subprocess.run(["perl", f"-I{FILES}", "-e", program, query], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("", ""),
        ("PatientName=Doe*", "PatientName=Doe*"),
        ("PatientName=Doe%2A&limit=1", "PatientName=Doe*&limit=1"),
        ("PatientName=Doe%5EJohn", "PatientName=Doe^John"),
        ("PatientName=van%20Dyke+Ann", "PatientName=van?Dyke?Ann"),
        ("PatientID=A%26B%3DC%23%25%2B", "PatientID=A?B?C???"),
        ("PatientName=M%C3%BCller%2a", "PatientName=M*ller*"),
        ("StudyDate=20240101%2D20240201", "StudyDate=20240101-20240201"),
        ("includefield=00100010%2C00100020", "includefield=00100010,00100020"),
        ("PatientName=%0d%0aInjected", "PatientName=??Injected"),
        ("broken=%zz%4", "broken=%zz%4"),
    ],
)
def test_query(sent: str, passed: str) -> None:
    assert decoded(sent) == passed
