"""What a stranger's bytes may cost: each of these once took seconds, or a gigabyte. One that does again doesn't end here."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest
from dicomweb.dataset import Dataset, element, read_json
from dicomweb.errors import RequestError
from dicomweb.matching import test_of as matches
from dicomweb.query import add_key
from dicomweb.stow import receive
from dicomweb.wado import rendering
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
