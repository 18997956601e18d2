from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from site_verify.instance import made
from site_verify.settings import Settings

GIVEN: dict[str, Any] = {
    "host": "127.0.0.1",
    "https_port": 1,
    "http_port": 2,
    "http": "on",
    "access": "none",
    "dicom_host": "127.0.0.1",
    "dicom_port": 3,
    "aet": "ORTHANC",
    "dimse_study": "2.25.1",
    "web_study": "2.25.2",
    "worklist": "yes",
    "pipeline": "yes",
    "static": "/static-dicomweb",
}


def run(given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "site_verify"],
        input=json.dumps(given),
        cwd=Path(__file__).parent.parent / "src",
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_make_addresses() -> None:
    settings = Settings.read(GIVEN)
    assert settings.url("/x") == "https://127.0.0.1:1/x"
    assert settings.url("/x", "http") == "http://127.0.0.1:2/x"


@pytest.mark.parametrize(
    ("change", "said"), [({"hots": "x"}, "hots"), ({"https_port": "9443"}, "https_port"), ({"host": 1}, "host")], ids=str
)
def test_bad_setting_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.read({**GIVEN, **change})
    ended = run({**GIVEN, **change})
    assert ended.returncode == 2
    assert said in ended.stderr


def test_missing_setting_is_named() -> None:
    with pytest.raises(ValueError, match="aet"):
        Settings.read({name: value for name, value in GIVEN.items() if name != "aet"})


def test_site_that_is_down_fails_every_check_and_says_where_to_look() -> None:
    ended = run(GIVEN)
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    assert len(lines) == 12
    assert [line.split()[0] for line in lines if " FAILED " not in line] == ["access"]
    assert "is orthanc@ running" in ended.stdout


def test_instances_differ_and_can_be_written(tmp_path: Path) -> None:
    one, other = made("2.25.1"), made("2.25.1")
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    one.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    assert len(one.PixelData) == one.Rows * one.Columns * 2
