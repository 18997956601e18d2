"""What a real Orthanc refuses: everything while a file tells of too little space, and sequences that are nested too deep."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Instance, of_kind, with_nested_sequences
from dimse_client import Archive
from orthanc_server import OrthancServer
from pydicom.uid import UID
from role_templates import rendered

OTHER = """
function ReceivedInstanceFilter(dicom, origin, info)
  return dicom.PatientID ~= 'UNWANTED'
end
"""


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return of_kind("ct", tmp_path)


@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "beside a script of the site"])
@pytest.mark.parametrize("reason", ["", "/var/lib has less than 2048 MB free\n"], ids=["with space", "without"])
def test_nested_sequences_dont_end_it(tmp_path: Path, reason: str, has_other: bool) -> None:
    """Orthanc gives an instance to a filter on a stack that it doesn't let grow."""
    told, other, built, data = (tmp_path / name for name in ("told", "other.lua", "built", "data"))
    built.mkdir()
    data.mkdir()
    other.write_text(OTHER)
    if reason:
        told.write_text(reason)
    script = rendered("orthanc", "refuse-instances.lua.j2", built, {"orthanc_no_space_file": str(told)})
    orthanc = OrthancServer(data, "ARCHIVE", LuaScripts=[*([str(other)] if has_other else []), str(script)])
    archive = Archive("127.0.0.1", orthanc.dicom_port, "ARCHIVE")
    try:
        for levels in (8, 24, 25, 50, 1500, 50):
            status = archive.store_file(with_nested_sequences(levels, tmp_path).path)
            assert status == (0xA700 if reason or levels > 24 else 0), levels
            assert orthanc.process.poll() is None
        assert orthanc.instance_count() == (0 if reason else 2)
    finally:
        orthanc.stop()


def test_it_refuses_by_every_way_and_the_sites_own_script_goes_on(instance: Instance, tmp_path: Path) -> None:
    told, other, built, data = (tmp_path / name for name in ("told", "other.lua", "built", "data"))
    built.mkdir()
    data.mkdir()
    other.write_text(OTHER)
    script = rendered("orthanc", "refuse-instances.lua.j2", built, {"orthanc_no_space_file": str(told)})
    orthanc = OrthancServer(data, "ARCHIVE", LuaScripts=[str(other), str(script)])
    archive = Archive("127.0.0.1", orthanc.dicom_port, "ARCHIVE")
    try:
        told.write_text("/var/lib has less than 2048 MB free\n")
        assert archive.store(instance.dataset) == 0xA700
        answer = orthanc.session.post(f"{orthanc.url}/instances", data=instance.path.read_bytes(), timeout=60)
        assert answer.status_code >= 500
        assert orthanc.instance_count() == 0
        assert archive.echo() == 0
        told.unlink()
        assert archive.store(instance.dataset) == 0
        assert orthanc.instance_count() == 1
        instance.dataset.PatientID = "UNWANTED"
        other_uid = UID("2.25.1")
        instance.dataset.SOPInstanceUID = instance.dataset.file_meta.MediaStorageSOPInstanceUID = other_uid
        archive.store(instance.dataset)
        assert orthanc.instance_count() == 1
    finally:
        orthanc.stop()
