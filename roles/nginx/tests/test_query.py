"""The Perl module that nginx decodes queries with, run by the Perl of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parent.parent / "files"


def told(function: str, *arguments: str) -> str:
    program = f"use DicomwebQuery; print DicomwebQuery::{function}(@ARGV);"
    return subprocess.run(["perl", f"-I{FILES}", "-e", program, *arguments], capture_output=True, text=True, check=True).stdout


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
    assert told("decoded", sent) == passed


@pytest.mark.parametrize(
    ("path", "query", "is_too_large"),
    [
        ("/dicom-web/studies/1/rendered", "", False),
        ("/dicom-web/studies/1/rendered", "viewport=8192,8192", False),
        ("/dicom-web/studies/1/rendered", "viewport=512,512,0,0,100000,100000", False),
        ("/dicom-web/studies/1/rendered", "viewport=0000030000,0000030000", True),
        ("/dicom-web/studies/1/rendered", "quality=1&viewport=1,8193", True),
        ("/dicom-web/studies/1/rendered", "viewport=1,1&%56iewport=30000%2C1", True),
        ("/dicom-web/studies/1/rendered", "viewport=" + "9" * 400, True),
        ("/dicom-web/instances", "Rows=30000&Columns=30000", False),
        ("/wado", "requestType=WADO&rows=30000", True),
        ("/wado", "requestType=WADO&rows=512&columns=99999", True),
        ("/wado", "requestType=WADO&rows=512&columns=512", False),
    ],
)
def test_a_picture_has_a_largest_side(path: str, query: str, is_too_large: bool) -> None:
    assert told("is_too_large", path, query) == ("1" if is_too_large else "")
