"""What nginx serves of the tree is what was in the files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import brotli
import pydicom
import pytest
import requests
import yaml
import zstandard
from datasets import KINDS, Instance, comparable
from dicomweb import syntaxes
from dimse.part10 import EXPLICIT
from nginx_server import Nginx
from proxy_server import parts_of
from pydicom.encaps import generate_frames

JSON = "application/dicom+json"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda content: zstandard.ZstdDecompressor().decompressobj().decompress(content),
    "br": brotli.decompress,
    "gzip": gzip.decompress,
}
TRAILING_PADDING = 0xFFFCFFFC
WITH_PIXELS = [kind for kind in KINDS if kind not in ("rt-plan", "rt-structure-set", "sr", "ecg", "pdf")]


def expected_frames(instance: Instance) -> list[bytes]:
    """Return the frames as pydicom reads them: encapsulated ones as they are, others as little endian."""
    dataset = instance.dataset
    count = int(dataset.get("NumberOfFrames") or 1)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return list(generate_frames(dataset.PixelData, number_of_frames=count))
    content = dataset.PixelData
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian and dataset.BitsAllocated == 16:
        content = pydicom.pixels.pixel_array(dataset, raw=True).astype("<u2").tobytes()
    size = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    return [content[number * size : (number + 1) * size] for number in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_files_come_byte_for_byte(nginx: Nginx, made: dict[str, Instance], kind: str) -> None:
    instance = made[kind]
    content = instance.path.read_bytes()
    alone = nginx.get(instance.url, "application/dicom")
    assert (alone.status_code, alone.headers["content-type"]) == (200, "application/dicom")
    assert alone.content == content
    study, _, _ = instance.url.partition("/series")
    series, _, _ = instance.url.partition("/instances")
    for path in (study, series, instance.url):
        answer = nginx.get(path, AS_STORED)
        assert answer.status_code == 200
        assert [part for _, part in parts_of(answer)] == [content]


@pytest.mark.parametrize("kind", WITH_PIXELS)
def test_frames_come_as_they_are_stored(nginx: Nginx, made: dict[str, Instance], kind: str) -> None:
    instance = made[kind]
    syntax = instance.dataset.file_meta.TransferSyntaxUID
    syntax = EXPLICIT if syntax in syntaxes.NATIVE else str(syntax)
    expected = expected_frames(instance)
    told = f"{syntaxes.media_type(syntax)}; transfer-syntax={syntax}"
    for number in {1, len(expected)}:
        path = f"{instance.url}/frames/{number}"
        [(kind_of_part, content)] = parts_of(nginx.get(path, FRAMES))
        assert (kind_of_part, content) == (told, expected[number - 1])
        alone = nginx.get(path, syntaxes.media_type(syntax).replace("application/*", ""))
        assert alone.headers["content-type"] == told
        assert alone.content == expected[number - 1]
        assert "max-age=86400" in alone.headers["cache-control"]
    assert nginx.get(f"{instance.url}/frames/{len(expected) + 1}", FRAMES).status_code == 404
    assert nginx.get(f"{instance.url}/frames/{len(expected) + 1}", "image/jpeg").status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_and_bulk_data_are_the_dataset(nginx: Nginx, made: dict[str, Instance], kind: str) -> None:
    instance = made[kind]
    study, _, _ = instance.url.partition("/series")
    [model] = nginx.get(f"{instance.url}/metadata", JSON).json()
    for path in (f"{study}/metadata", f"{instance.url.partition('/instances')[0]}/metadata"):
        assert nginx.get(path, JSON).json() == [model]

    def fetch(_tag: object, _vr: object, uri: str) -> bytes:
        answer = nginx.get(uri.removeprefix(nginx.prefix), "application/octet-stream")
        return answer.content if answer.status_code == 200 else b""

    came = pydicom.Dataset.from_json(model, bulk_data_uri_handler=fetch)
    expected = comparable(instance.dataset)
    assert set(came.keys()) - {TRAILING_PADDING} == set(expected.keys())
    for element in expected:
        if element.keyword == "PixelData":
            if instance.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
                parts = parts_of(nginx.get(f"{instance.url}/bulkdata/7FE00010"))
                assert [content for _, content in parts] == expected_frames(instance)
            else:
                assert came.PixelData == b"".join(expected_frames(instance))
        elif isinstance(element.value, bytes):
            assert came[element.tag].value == element.value, element.tag
        elif element.VR in ("UI", "CS", "LO", "SH", "PN", "DA", "US"):
            assert came[element.tag].value == element.value or element.keyword == "SpecificCharacterSet"


@pytest.mark.parametrize(
    ("encodings", "chosen"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("br;q=1.0, gzip", "br"),
        ("zstd;q=0, br;q=0, gzip", "gzip"),
        ("gzip", "gzip"),
        ("identity", None),
    ],
)
def test_documents_come_in_the_encoding_that_is_taken(
    nginx: Nginx, made: dict[str, Instance], encodings: str, chosen: str | None
) -> None:
    study, _, _ = made["ct"].url.partition("/series")
    plain = nginx.get(f"{study}/metadata", JSON, **{"Accept-Encoding": "identity"}).content
    url = f"{nginx.url}{nginx.prefix}{study}/metadata"
    answer = nginx.session.get(url, headers={"Accept": JSON, "Accept-Encoding": encodings}, stream=True, timeout=30)
    assert answer.headers.get("content-encoding") == chosen
    assert "Accept-Encoding" in answer.headers["vary"]
    raw = answer.raw.read(decode_content=False)
    assert (UNPACK[chosen](raw) if chosen else raw) == plain
    again = nginx.session.get(
        url, headers={"Accept-Encoding": encodings, "If-None-Match": answer.headers.get("etag", "")}, timeout=30
    )
    assert again.status_code == 304 or chosen in ("gzip", None)


def test_what_is_not_there_is_not_found(nginx: Nginx, made: dict[str, Instance]) -> None:
    study, _, _ = made["ct"].url.partition("/series")
    for path in (
        "/studies/1.2.3",
        "/studies/1.2.3/metadata",
        "/studies/1.2.3/series",
        f"{study}/series/1.2.3/metadata",
        f"{study}/series/1.2.3/instances/4.5.6",
        f"{study}/../../index.sqlite",
        f"{made['ct'].url}/bulkdata/00990099",
        f"{made['ct'].url}/head",
    ):
        assert nginx.get(path, "*/*").status_code == 404, path
    assert nginx.session.get(f"{nginx.url}/.static-dicomweb/index.sqlite", timeout=30).status_code == 404


def test_a_file_that_misses_a_piece_is_cut(nginx: Nginx, made: dict[str, Instance], tree: Path) -> None:
    instance = made["mr"]
    (head,) = tree.glob(f"instances/*/*/{instance.dataset.SOPInstanceUID}/head")
    elsewhere = head.rename(head.with_name("elsewhere"))
    try:
        for accept in ("application/dicom", AS_STORED):
            with pytest.raises(requests.RequestException):
                nginx.get(instance.url, accept)
    finally:
        elsewhere.rename(head)
    assert nginx.get(instance.url, "application/dicom").content == instance.path.read_bytes()


def test_the_role_knows_the_type_of_every_frame() -> None:
    told = yaml.safe_load((Path(__file__).parents[3] / "roles/nginx/vars/main/main.yml").read_text())["__nginx_static_frame_types"]
    for number, kind in told.items():
        syntax = kind.partition("transfer-syntax=")[2]
        assert syntax.rpartition(".")[2] == number
        assert kind == f"{syntaxes.media_type(syntax)}; transfer-syntax={syntax}"
