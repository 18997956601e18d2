from __future__ import annotations

from orthanc_packages import versions, with_sums

PACKAGES = {"Orthanc": "orthanc", "DicomWeb": "orthanc-dicomweb"}


def test_version_is_upstreams() -> None:
    installed = {"orthanc": "1.12.7+dfsg-3", "orthanc-dicomweb": "1:1.18", "nginx": "1.26"}
    assert versions(PACKAGES, installed) == {"Orthanc": "1.12.7", "DicomWeb": "1.18"}
    assert versions(PACKAGES, {}) == {}


def test_a_binary_without_a_sum_has_none() -> None:
    binaries = [{"path": "a/1/A", "directory": "bin"}, {"path": "b/2/B.so", "directory": "plugins"}]
    assert [each["sha256"] for each in with_sums(binaries, {"a/1/A": "77"})] == ["77", ""]
