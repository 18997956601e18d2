"""DICOMweb through nginx: STOW-RS, QIDO-RS, WADO-RS, WADO-URI, and a public client."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from datasets import KINDS, Instance, ct_study, of_kind, read, same
from dicomweb_client.api import DICOMwebClient
from hosts import Host
from PIL import Image
from web import DICOM, Web, parts, values


@pytest.fixture(scope="module")
def study(host: Host, tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """A study of three CT images, stored by STOW-RS."""
    instances = ct_study(3, tmp_path_factory.mktemp("study"), rows=64, PatientName="Grün^Ada", PatientID="P 1", StudyID="S1")
    answer = host.web.stow(instance.path.read_bytes() for instance in instances)
    assert answer.status_code == 200
    assert len(values(answer.json(), "00081199")) == 3
    return instances


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back(host: Host, kind: str, tmp_path: Path) -> None:
    sent = of_kind(kind, tmp_path)
    stored = host.web.stow([sent.path.read_bytes()])
    assert stored.status_code == 200, stored.text
    assert values(stored.json(), "00081199")[0]["00081155"]["Value"] == [sent.dataset.SOPInstanceUID]
    received = [read(content) for _, content in parts(host.web.get(sent.url, DICOM))]
    assert len(received) == 1
    assert received[0].file_meta.TransferSyntaxUID == sent.dataset.file_meta.TransferSyntaxUID
    assert same(received[0], sent.dataset)


def test_stored_by_dimse_fetched_by_dicomweb(host: Host, tmp_path: Path) -> None:
    sent = of_kind("ct", tmp_path)
    assert host.archive.store(sent.dataset) == 0
    assert same(read(parts(host.web.get(sent.url, DICOM))[0][1]), sent.dataset)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_wado_rs_at_every_level(host: Host, study: list[Instance], level: str) -> None:
    path = study[0].url.split("/series")[0] if level == "study" else study[0].url.split("/instances")[0]
    answer = host.web.get(study[0].url if level == "instance" else path, DICOM)
    received = {read(content).SOPInstanceUID: read(content) for _, content in parts(answer)}
    wanted = study[:1] if level == "instance" else study
    assert set(received) == {instance.dataset.SOPInstanceUID for instance in wanted}
    assert all(same(received[instance.dataset.SOPInstanceUID], instance.dataset) for instance in wanted)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_metadata_names_the_public_address(host: Host, study: list[Instance], level: str) -> None:
    path = {"study": study[0].url.split("/series")[0], "series": study[0].url.split("/instances")[0], "instance": study[0].url}[
        level
    ]
    answer = host.web.get(f"{path}/metadata")
    assert answer.status_code == 200
    assert len(answer.json()) == (1 if level == "instance" else 3)
    bulk = [item["7FE00010"]["BulkDataURI"] for item in answer.json() if "BulkDataURI" in item.get("7FE00010", {})]
    assert bulk
    assert all(uri.startswith(f"https://{host.address}:9443/dicom-web/") for uri in bulk)


def test_bulk_data(host: Host, study: list[Instance]) -> None:
    uri = host.web.get(f"{study[0].url}/metadata").json()[0]["7FE00010"]["BulkDataURI"]
    answer = host.web.session.get(uri, headers={"Accept": 'multipart/related; type="application/octet-stream"'}, timeout=30)
    assert [content for _, content in parts(answer)] == [study[0].dataset.PixelData]


def test_frames_in_the_order_that_is_asked(host: Host, tmp_path: Path) -> None:
    sent = of_kind("rt-dose-multi-frame", tmp_path)
    assert host.web.stow([sent.path.read_bytes()]).status_code == 200
    size = len(sent.dataset.PixelData) // int(sent.dataset.NumberOfFrames)
    answer = host.web.get(f"{sent.url}/frames/3,1", 'multipart/related; type="application/octet-stream"')
    assert [content for _, content in parts(answer)] == [sent.dataset.PixelData[2 * size : 3 * size], sent.dataset.PixelData[:size]]


@pytest.mark.parametrize(("accept", "form"), [("image/jpeg", "JPEG"), ("image/png", "PNG")])
def test_rendered(host: Host, study: list[Instance], accept: str, form: str) -> None:
    answer = host.web.get(f"{study[0].url}/rendered", accept)
    assert answer.status_code == 200
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == (form, (64, 64))


def test_wado_uri(host: Host, study: list[Instance]) -> None:
    data = study[0].dataset
    query = {
        "requestType": "WADO",
        "studyUID": data.StudyInstanceUID,
        "seriesUID": data.SeriesInstanceUID,
        "objectUID": data.SOPInstanceUID,
    }
    answer = host.web.request("GET", "~/wado", params={**query, "contentType": "application/dicom"})
    assert same(read(answer.content), data)
    picture = host.web.request("GET", "~/wado", params={**query, "contentType": "image/jpeg"})
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)


class TestSearch:
    """QIDO-RS (PS3.18 10.6), as clients send it: percent-encoded."""

    def test_nested_and_from_the_root(self, host: Host, study: list[Instance]) -> None:
        data = study[0].dataset
        one, series = data.StudyInstanceUID, data.SeriesInstanceUID
        for path, count in {
            f"/studies?StudyInstanceUID={one}": 1,
            f"/studies/{one}/series": 1,
            f"/series?SeriesInstanceUID={series}": 1,
            f"/studies/{one}/instances": 3,
            f"/studies/{one}/series/{series}/instances": 3,
            f"/instances?SeriesInstanceUID={series}": 3,
        }.items():
            assert len(host.web.get(path).json()) == count, path

    @pytest.mark.parametrize(
        "query",
        [
            {"PatientName": "Gr*"},
            {"PatientName": "gr*ada"},
            {"PatientName": "Grün^Ada"},
            {"PatientName": "G?ün*"},
            {"00100010": "*Ada"},
            {"PatientID": "P 1"},
            {"StudyDate": "20040119"},
            {"StudyDate": "20040101-20041231"},
            {"StudyDate": "-20041231"},
            {"ModalitiesInStudy": "CT"},
            {"PatientName": "Gr*", "fuzzymatching": "false"},
            {"StudyID": "S1", "PatientID": "P 1"},
        ],
        ids=str,
    )
    def test_keys(self, host: Host, study: list[Instance], query: dict[str, str]) -> None:
        found = host.web.found("/studies", **query)
        assert [study[0].dataset.StudyInstanceUID] in [values(item, "0020000D") for item in found]

    @pytest.mark.parametrize("query", [{"PatientName": "Nobody*"}, {"StudyDate": "19000101"}, {"PatientID": "no such"}], ids=str)
    def test_nothing_matches(self, host: Host, study: list[Instance], query: dict[str, str]) -> None:
        assert host.web.found("/studies", **query) == []

    def test_limit_and_offset(self, host: Host, study: list[Instance]) -> None:
        path = f"/studies/{study[0].dataset.StudyInstanceUID}/instances"
        pages = [host.web.found(path, limit="1", offset=str(offset)) for offset in range(4)]
        assert [len(page) for page in pages] == [1, 1, 1, 0]
        assert {values(page[0], "00080018")[0] for page in pages[:3]} == {instance.dataset.SOPInstanceUID for instance in study}

    def test_includefield(self, host: Host, study: list[Instance]) -> None:
        uid = study[0].dataset.StudyInstanceUID
        assert "00080070" not in host.web.found(f"/studies/{uid}/series")[0]
        assert values(host.web.found(f"/studies/{uid}/series", includefield="Manufacturer")[0], "00080070")
        assert values(host.web.found(f"/studies/{uid}/instances", includefield="00200032,00280030")[0], "00280030")

    def test_answers_have_what_the_standard_demands(self, host: Host, study: list[Instance]) -> None:
        """PS3.18 table 10.6.3-3 and following, the attributes that these instances have."""
        uid = study[0].dataset.StudyInstanceUID
        found = host.web.found("/studies", StudyInstanceUID=uid)[0]
        assert {"00080020", "00080061", "00100010", "00100020", "0020000D", "00200010", "00201206", "00201208"} <= set(found)
        assert values(found, "00201208") == [3]
        instance = host.web.found(f"/studies/{uid}/instances")[0]
        assert {"00080016", "00080018", "00200013", "00280010", "00280011", "00280100"} <= set(instance)


def test_an_administrator_deletes_by_rest(host: Host, tmp_path: Path) -> None:
    sent = of_kind("mr", tmp_path)
    assert host.web.stow([sent.path.read_bytes()]).status_code == 200
    found = host.identifier("Study", StudyInstanceUID=sent.dataset.StudyInstanceUID)
    assert host.orthanc(8042, f"/studies/{found}", method="DELETE") is not None
    assert host.web.get(sent.url, DICOM).status_code == 404


def test_public_client_library(host: Host, tmp_path: Path) -> None:
    web = Web(f"https://{host.address}:9443")
    client = DICOMwebClient(f"https://{host.address}:9443/dicom-web", session=web.session)
    sent = ct_study(2, tmp_path, rows=32, PatientName="Client^Public")
    uid, series = sent[0].dataset.StudyInstanceUID, sent[0].dataset.SeriesInstanceUID
    client.store_instances([instance.dataset for instance in sent])
    assert len(client.search_for_studies(search_filters={"StudyInstanceUID": uid, "PatientName": "Client^*"})) == 1
    fetched = client.retrieve_series(uid, series, media_types=(("application/dicom", "*"),))
    assert {dataset.SOPInstanceUID for dataset in fetched} == {instance.dataset.SOPInstanceUID for instance in sent}
    assert len(client.retrieve_series_metadata(uid, series)) == 2
    # Without media types the client asks for multipart/related; type="*/*", which Orthanc refuses.
    kinds = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
    frames = client.retrieve_instance_frames(uid, series, sent[0].dataset.SOPInstanceUID, [1], media_types=kinds)
    assert frames == [sent[0].dataset.PixelData]


def test_five_hundred_instances(host: Host, tmp_path: Path) -> None:
    sent = ct_study(500, tmp_path, rows=128)
    answer = host.web.stow(instance.path.read_bytes() for instance in sent)
    assert len(values(answer.json(), "00081199")) == 500
    uid = sent[0].dataset.StudyInstanceUID
    assert len(host.web.get(f"/studies/{uid}/metadata").json()) == 500
    received = {
        item.SOPInstanceUID: item for item in (read(content) for _, content in parts(host.web.get(f"/studies/{uid}", DICOM)))
    }
    assert len(received) == 500
    assert all(same(received[instance.dataset.SOPInstanceUID], instance.dataset) for instance in sent)
