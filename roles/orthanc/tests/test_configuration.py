from __future__ import annotations

from typing import Any

import pytest
from orthanc_configuration import configuration, instance_problems

ONE: dict[str, Any] = {"name": "main", "aet": "ORTHANC", "dicom_port": 4242, "http_port": 8042}
DATABASE = {"host": "10.0.0.1", "port": 5433, "name": "orthanc", "user": "orthanc", "password": "p/w:1"}


def test_instance_is_loopback_and_sqlite_unless_said() -> None:
    made = configuration(ONE, {}, {}, ["/p.so"])
    assert made["RemoteAccessAllowed"] is False
    assert made["AuthenticationEnabled"] is False
    assert made["PostgreSQL"] == {"EnableIndex": False}
    assert made["StorageDirectory"] == made["IndexDirectory"] == "/var/lib/orthanc/main"
    assert made["Plugins"] == ["/p.so"]


def test_later_layers_win_and_sections_are_merged() -> None:
    site: dict[str, Any] = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "StableAge": 60}
    given: dict[str, Any] = {"DicomWeb": {"Servers": {"a": {"Url": "u"}}}, "StableAge": 30}
    made = configuration({**ONE, "settings": {"StableAge": 10}}, site, given, [])
    assert made["DicomWeb"] == {"Enable": True, "Root": "/dicom-web/", "Servers": {"a": {"Url": "u"}}}
    assert made["StableAge"] == 10
    assert "Servers" not in site["DicomWeb"]


def test_database_on_another_host_is_verified_in_full() -> None:
    index = configuration({**ONE, "database": {**DATABASE, "ca": "/x.crt"}}, {}, {}, [])["PostgreSQL"]
    assert index["ConnectionUri"] == (
        "postgresql://orthanc:p%2Fw%3A1@10.0.0.1:5433/orthanc?sslmode=verify-full"
        "&sslrootcert=/etc/orthanc/instances/main-database-ca.pem"
    )
    assert "Password" not in index
    by_ipv6 = configuration({**ONE, "database": {**DATABASE, "ca": "/x.crt", "host": "fd00::1"}}, {}, {}, [])["PostgreSQL"]
    assert "@[fd00::1]:5433/" in by_ipv6["ConnectionUri"]


def test_database_on_the_same_host() -> None:
    index = configuration({**ONE, "database": DATABASE}, {}, {}, [])["PostgreSQL"]
    assert (index["EnableIndex"], index["Port"], index["Password"]) == (True, 5433, "p/w:1")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({**ONE, "name": "b", "dicom_port": 1, "http_port": 2}, "aet ORTHANC"),
        ({**ONE, "aet": "B", "dicom_port": 1, "http_port": 2}, "name main"),
        ({**ONE, "name": "b", "aet": "B", "http_port": 2}, "Port 4242"),
        ({**ONE, "name": "b", "aet": "B", "dicom_port": 8042, "http_port": 2}, "Port 8042"),
        ({**ONE, "name": "b", "aet": "B", "dicom_port": 0, "http_port": 2}, "0 is no port"),
        ({**ONE, "name": "B", "aet": "B", "dicom_port": 1, "http_port": 2}, "name 'B'"),
        ({**ONE, "name": "b", "aet": "A\\B", "dicom_port": 1, "http_port": 2}, "no backslash"),
        ({**ONE, "name": "b", "aet": " ", "dicom_port": 1, "http_port": 2}, "1 to 16"),
        ({**ONE, "name": "b", "aet": "B", "dicom_port": 1, "http_port": 2, "http_remote": True}, "http_remote"),
        ({**ONE, "name": "b", "aet": "B", "dicom_port": 1, "http_port": 2, "certificate": "/c"}, "give both"),
    ],
)
def test_what_cant_run_beside_the_first(other: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in instance_problems([ONE, other]))


def test_two_that_can() -> None:
    assert instance_problems([ONE, {"name": "b", "aet": "B", "dicom_port": 104, "http_port": 8043}]) == []


def test_one_behind_another_listens_where_it_is_told_and_knows_no_addresses() -> None:
    behind = {**ONE, "dicom_listen_port": 14242}
    assert configuration(behind, {}, {}, [])["DicomPort"] == 14242
    assert instance_problems([behind], {}) == []
    assert "site_dicom_callers" in instance_problems([behind], {"DicomCheckModalityHost": True})[0]
    assert instance_problems([ONE], {"DicomCheckModalityHost": True}) == []
    other = {**ONE, "name": "b", "aet": "B", "dicom_port": 14242, "http_port": 1}
    assert "14242 is given twice" in instance_problems([behind, other])[0]
