from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from orthanc_options import readable_options, unknown_options, unread_options

CATALOGUE: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "vars/options.yml").read_text())["__orthanc_options"]
DEBIAN_12 = {"Orthanc": "1.10.1", "DicomWeb": "1.7", "PostgreSQL": "4.0"}


def test_every_option_of_the_issue_is_known() -> None:
    server = "Enable Root EnableWado WadoRoot Host Ssl StowMaxInstances StowMaxSize QidoCaseSensitive Servers"
    core = "DicomModalities OrthancPeers HttpsCACertificates HttpProxy HttpTimeout Pkcs11 SaveJobs KeepAlive TcpNoDelay"
    named: dict[str, Any] = {**dict.fromkeys(core.split()), "DicomWeb": dict.fromkeys(server.split())}
    assert unknown_options(named, CATALOGUE, []) == []


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"StorageCompresion": 1}, "StorageCompresion (did you mean StorageCompression"),
        ({"DicomWeb": {"Enabel": 1}}, "DicomWeb.Enabel (did you mean Enable"),
        ({"Zzz": 1}, "Zzz"),
    ],
)
def test_misspelled_option_is_named_with_its_neighbour(settings: dict[str, Any], line: str) -> None:
    (said,) = unknown_options(settings, CATALOGUE, [])
    assert said.startswith(line)


def test_accepted_names_pass() -> None:
    assert unknown_options({"Python": {"x": 1}, "DicomWeb": {"New": 1}}, CATALOGUE, ["Python", "DicomWeb.New"]) == []


def test_option_newer_than_the_installed_version() -> None:
    (said,) = unread_options({"ExtraMainDicomTags": {}}, CATALOGUE, DEBIAN_12)
    assert said == "ExtraMainDicomTags is read by Orthanc from 1.11.0 on; installed is 1.10.1, which ignores it"


def test_option_that_is_read_no_longer() -> None:
    (said,) = unread_options({"DicomWeb": {"StowMaxSize": 1}}, CATALOGUE, DEBIAN_12)
    assert "up to 0.6" in said


def test_own_settings_leave_out_what_isnt_read() -> None:
    settings = {"ExtraMainDicomTags": {}, "StableAge": 1, "PostgreSQL": {"TransactionMode": "x", "Lock": True}}
    assert readable_options(settings, CATALOGUE, DEBIAN_12) == {"StableAge": 1, "PostgreSQL": {"Lock": True}}
    assert readable_options(settings, CATALOGUE, {}) == settings
