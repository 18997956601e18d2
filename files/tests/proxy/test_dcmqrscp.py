"""An archive of another make: DCMTK's dcmqrscp, by C-GET and by C-MOVE."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from datasets import Instance, of_kind, read, same
from proxy_server import PROXY_AET, Proxy, parts_of
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from servers import free_port, wait_for_port

# By their paths: pynetdicom has programs of the same names.
DCMQRSCP, DCMQRIDX = "/usr/bin/dcmqrscp", "/usr/bin/dcmqridx"
KINDS = ["ct", "mr", "mr-implicit", "mr-rle", "sc-rgb", "us-palette", "rt-plan", "sr", "ecg", "rt-dose-multi-frame"]
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
proxy = ({proxy}, 127.0.0.1, {proxy_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
DCMQRSCP {directory} RW (500, 4096mb) ANY
AETable END
"""


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    directory = tmp_path_factory.mktemp("instances")
    return {kind: of_kind(kind, directory) for kind in KINDS}


@pytest.fixture(scope="module", params=["get", "move"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, instances: dict[str, Instance]
) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("dcmqrscp")
    stored = directory / "stored"
    stored.mkdir()
    for instance in instances.values():
        shutil.copy(instance.path, stored)
    subprocess.run([DCMQRIDX, str(stored), *map(str, stored.glob("*.dcm"))], check=True, timeout=60)
    port, proxy_port = free_port(), free_port()
    configuration = directory / "dcmqrscp.cfg"
    configuration.write_text(CONFIGURATION.format(port=port, proxy=PROXY_AET, proxy_port=proxy_port, directory=stored))
    archive = subprocess.Popen([DCMQRSCP, "-c", str(configuration)], env=os.environ | {"TCP_NODELAY": "1"})
    wait_for_port(archive, port)
    made = Proxy(directory, [("DCMQRSCP", port)], useCget=request.param == "get", dicom_port=proxy_port, enableCache=False)
    yield made
    made.stop()
    archive.terminate()
    archive.wait(30)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_as_it_is_stored(proxy: Proxy, instances: dict[str, Instance], kind: str) -> None:
    instance = instances[kind]
    if kind == "mr-rle":
        # It has codecs, but uses one transfer syntax for all that it sends, and doesn't decompress for it: that is told.
        answer = proxy.get(instance.url, AS_STORED)
        assert (answer.status_code, "0xA702" in answer.json()["message"]) == (503, True)
        return
    for path in (instance.url, instance.url.partition("/series")[0]):
        answer = proxy.get(path, AS_STORED)
        assert answer.status_code == 200, answer.text
        [(_, content)] = parts_of(answer)
        came = read(content)
        assert same(came, instance.dataset)
        # It brings what isn't compressed into explicit VR.
        stored, syntax = instance.dataset.file_meta.TransferSyntaxUID, came.file_meta.TransferSyntaxUID
        assert syntax == stored or (syntax, stored) == (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def test_searches_at_every_level(proxy: Proxy, instances: dict[str, Instance]) -> None:
    dataset = instances["ct"].dataset
    study = f"/studies/{dataset.StudyInstanceUID}"
    assert len(proxy.get("/studies").json()) == len(KINDS)
    [row] = proxy.get(f"/studies?PatientID={dataset.PatientID}").json()
    assert row["00100020"]["Value"] == [dataset.PatientID]
    assert [row["0020000E"]["Value"][0] for row in proxy.get(f"{study}/series").json()] == [dataset.SeriesInstanceUID]
    assert [row["00080018"]["Value"][0] for row in proxy.get(f"{study}/instances").json()] == [dataset.SOPInstanceUID]
    assert len(proxy.get("/series?Modality=MR").json()) == 3
    assert proxy.get("/studies?PatientID=NOBODY").status_code == 204
    assert proxy.get("/studies/1.2.3", AS_STORED).status_code == 404
