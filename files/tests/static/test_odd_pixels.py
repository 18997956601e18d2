"""Of instances whose pixels aren't what they say, what is there is served, and costs none of the others anything."""

from __future__ import annotations

from collections.abc import Iterator

import pydicom
import pytest
from datasets import Instance
from mkdicomweb import create
from nginx_server import Nginx
from odd_pixels import FRAMES, ODD, frames_there
from proxy_server import parts_of


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    return {name: make(tmp_path_factory.mktemp("odd")) for name, (make, _) in ODD.items()}


@pytest.fixture(scope="module")
def served(odd: dict[str, Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("static") / "tree"
    done = create(root, *(instance.path for instance in odd.values()))
    assert done.exit_code == 0, done.output
    server = Nginx(tmp_path_factory.mktemp("nginx"), root)
    yield server
    server.stop()


@pytest.mark.parametrize("name", ODD)
def test_frames_and_values_that_are_there_are_served(served: Nginx, odd: dict[str, Instance], name: str) -> None:
    instance, (_, count) = odd[name], ODD[name]
    for number, frame in enumerate(frames_there(instance, count), 1):
        [(_, content)] = parts_of(served.get(f"{instance.url}/frames/{number}", FRAMES))
        assert content == frame
    assert served.get(f"{instance.url}/frames/{count + 1}", FRAMES).status_code == 404
    assert served.get(instance.url, "application/dicom").content == instance.path.read_bytes()
    value = served.get(f"{instance.url}/bulkdata/7FE00010", "*/*")
    assert value.status_code == 200
    if instance.dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        assert [content for _, content in parts_of(value)] == frames_there(instance, count)
    else:
        assert value.content == pydicom.dcmread(instance.path).PixelData


def test_a_study_of_them_is_whole(served: Nginx, odd: dict[str, Instance]) -> None:
    for instance in odd.values():
        study = instance.url.partition("/series")[0]
        assert len(served.get(f"{study}/metadata", "application/dicom+json").json()) == 1
