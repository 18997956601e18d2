"""What a stranger's bytes may cost: each of these once took seconds, or a gigabyte. One that does again doesn't end here."""

from __future__ import annotations

import asyncio
import functools
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb.dataset import Dataset, element, read_json
from dicomweb.errors import RequestError
from dicomweb.frame_table import OpenFrames
from dicomweb.matching import test_of as matches
from dicomweb.pixels import Rendering, frame_of, pixels_of, rendered
from dicomweb.query import add_key
from dicomweb.retrieval_request import rendering
from dicomweb.stow import receive
from dimse.part10 import DEFLATED, EXPLICIT, file_head, read_texts_slowly
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request


@functools.cache
def is_like(pattern: str, text: str) -> bool:
    """Say by the definition alone whether a text matches a pattern (PS3.4 C.2.2.2.4)."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return is_like(pattern[1:], text) or (text != "" and is_like(pattern, text[1:]))
    return text != "" and pattern[0] in (text[0], "?") and is_like(pattern[1:], text[1:])


def found(pattern: str, text: str) -> bool:
    dataset: Dataset = {"00081030": element("LO", text)}
    return matches({"00081030": pattern})(dataset)


@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab\n", max_size=12))
def test_wildcards_mean_what_they_say(pattern: str, text: str) -> None:
    if pattern.strip("*") and ("*" in pattern or "?" in pattern):
        assert found(pattern, text) is is_like(pattern, text)


@pytest.mark.parametrize("pattern", ["*a" * 2000 + "*b", "*a?" * 1300 + "b", "?" * 4000 + "*b"])
def test_many_wildcards_take_no_longer(pattern: str) -> None:
    assert not found(pattern, "a" * 10_000)


def test_a_name_given_twice_is_found_at_once() -> None:
    names = ",".join(f'"{number}":1' for number in range(200_000))
    with pytest.raises(RequestError, match="'7' twice in one object"):
        read_json(f'{{{names},"7":1}}'.encode())


@pytest.mark.parametrize("depth", [9, 100, 100_000])
def test_a_key_may_lie_in_seven_sequences(depth: int) -> None:
    add_key({}, ".".join(["0040A730"] * 7 + ["00080100"]), "x*")
    with pytest.raises(RequestError, match="a search goes 7 deep"):
        add_key({}, ".".join(["0040A730"] * depth + ["00080100"]), "x*")


@pytest.mark.parametrize(
    "asked",
    [("viewport", "0000030000,0000030000"), ("viewport", "9" * 5000 + ",1"), ("viewport", "1,1,1"), ("quality", "0090000")],
)
def test_a_picture_has_a_largest_size(asked: tuple[str, str]) -> None:
    with pytest.raises(RequestError, match=f"{asked[0]} is"):
        rendering([asked], "image/jpeg")
    assert rendering([("viewport", "08192,1")], "image/jpeg").viewport == (8192, 1)


class Body:
    """A request by STOW-RS, as the server hands it on."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter([*pieces])

    async def __call__(self) -> dict[str, object]:
        piece = next(self._pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}


def test_a_request_has_so_many_parts_at_most(tmp_path: Path) -> None:
    headers = [
        (b"content-type", b'multipart/related; type="application/dicom"; boundary=b'),
        (b"accept", b"application/dicom+json"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/studies", "query_string": b"", "headers": headers}
    request = Request(scope, Body(b"\r\n--b\r\n\r\n" * 60_000))
    with pytest.raises(RequestError, match="more than 10000 instances"):
        asyncio.run(receive(request, tmp_path, 1 << 30))
    assert len(list(tmp_path.iterdir())) == 10_000


@pytest.fixture
def memory() -> Iterator[None]:
    """Fails the test where more than 64 MB were taken at a time."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 << 20


def short(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def image(side: int, frames: int, pixels: int) -> bytes:
    """Return the beginning of a dataset with so many pixels of 8 bits, up to where they begin."""
    size = struct.pack("<H", side)
    return b"".join(
        [
            short(0x0020000D, b"UI", b"1.2\0"),
            short(0x0020000E, b"UI", b"1.3\0"),
            short(0x00280002, b"US", b"\1\0"),
            short(0x00280004, b"CS", b"MONOCHROME2 "),
            short(0x00280008, b"IS", f"{frames:<4}".encode()),
            short(0x00280010, b"US", size),
            short(0x00280011, b"US", size),
            short(0x00280100, b"US", b"\x08\0"),
            short(0x00280101, b"US", b"\x08\0"),
            short(0x00280102, b"US", b"\x07\0"),
            short(0x00280103, b"US", b"\0\0"),
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, pixels),
        ]
    )


def deflated(beginning: bytes, zeros: int) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packing.compress(beginning)] + [packing.compress(bytes(1 << 20)) for _ in range(zeros >> 20)]
    return b"".join([*pieces, packing.flush()])


def test_a_deflated_dataset_is_inflated_no_further_than_its_beginning(memory: None) -> None:
    content = deflated(image(1000, 500, 500 << 20), 500 << 20)
    assert len(content) < 600_000
    found = read_texts_slowly(io.BytesIO(content), DEFLATED, [0x0020000D, 0x0020000E])
    assert found == {0x0020000D: "1.2", 0x0020000E: "1.3"}


def test_one_that_would_fill_the_memory_is_not_read(tmp_path: Path, memory: None) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", DEFLATED) + deflated(image(1000, 900, 900 << 20), 900 << 20))
    with pytest.raises(RequestError, match="inflates to more than 256 MB") as refused:
        pixels_of(path)
    assert refused.value.status == 413


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A native multi-frame of 400 MB, of which the last frame isn't of zeros; a sparse file."""
    path = tmp_path / "large.dcm"
    side, count = 2000, 100
    with path.open("wb") as file:
        file.write(file_head("1.2.840.10008.5.1.4.1.1.7.2", "1.4", EXPLICIT) + image(side, count, side * side * count))
        file.seek(side * side * (count - 1), io.SEEK_CUR)
        file.write(b"\x7f" * side * side)
    return path


def test_a_frame_is_read_without_the_others(large: Path, memory: None) -> None:
    with OpenFrames(large) as opened:
        first, last = opened.frame(1), opened.frame(100)
        assert (len(first), set(first), set(last)) == (4_000_000, {0}, {0x7F})
        with pytest.raises(RequestError, match="no frame 101"):
            opened.frame(101)
    dataset, number = frame_of(large, 100)
    assert (len(dataset.PixelData), number) == (4_000_000, 1)


def test_a_frame_that_the_file_lacks_is_said(large: Path, memory: None) -> None:
    with large.open("r+b") as file:
        file.truncate(large.stat().st_size - 5)
    with OpenFrames(large) as opened, pytest.raises(RequestError, match="end before frame 100 of 100"):
        opened.frame(100)


def test_a_picture_of_any_size_is_not_drawn(tmp_path: Path, memory: None) -> None:
    path = tmp_path / "wide.dcm"
    with path.open("wb") as file:
        file.write(file_head("1.2.840.10008.5.1.4.1.1.7", "1.4", EXPLICIT) + image(10_000, 1, 100_000_000))
        file.truncate(file.tell() + 100_000_000)
    with pytest.raises(RequestError, match="are not rendered") as refused:
        rendered(*frame_of(path, None), Rendering(), is_thumbnail=True)
    assert refused.value.status == 406
