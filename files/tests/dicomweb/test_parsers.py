"""Every parser of strangers' bytes: it raises its own errors alone, and no input takes more memory or time than its size allows."""

from __future__ import annotations

import asyncio
import signal
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from types import FrameType
from typing import NoReturn

import pytest
from dicomweb.dataset import checked, read_json
from dicomweb.errors import RequestError
from dicomweb.http import pairs
from dicomweb.matching import test_of as matches
from dicomweb.multipart import read_parts
from dicomweb.native_xml import read_xml
from dicomweb.negotiation import answer_type, body_type
from dicomweb.nesting import refuse_deep
from dicomweb.query import parse_query
from dicomweb.retrieval_request import rendering
from dimse.part10 import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    decoded,
    encoded,
    file_head,
    read_syntax,
    read_texts,
    read_texts_slowly,
)
from dimse.upper_layer import BrokenError, elements, item, items
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.requests import Request
from upsrs.wire import filter_of

LONGEST = 100_000
# The processor time of an input of that length, many times what any takes: one that needs more would never end at a megabyte.
MOST_SECONDS = 20
MOST_MEMORY = 64 << 20
TAGS = (0x0020000D, 0x0020000E)


def request(query: bytes) -> Request:
    return Request({"type": "http", "method": "GET", "path": "/studies", "query_string": query, "headers": []})


def search(query: bytes) -> None:
    found = parse_query(pairs(request(query)))
    matches(found.matching)({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "a" * 64}]}})


def multipart(body: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async def read() -> None:
        async for _, content in read_parts('multipart/related; type="application/dicom"; boundary=b', pieces()):
            async for _ in content:
                pass

    asyncio.run(read())


def beginning(syntax: str, content: bytes) -> None:
    read_texts(content, syntax, TAGS)
    read_texts_slowly(BytesIO(content), syntax, TAGS)


def dataset(syntax: str) -> bytes:
    made = Dataset()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.PatientName = "1.2.3", "1.2.4", "Doe^Jane"
    made.ContentSequence = Sequence([Dataset()])
    made.ContentSequence[0].CodeValue = "1"
    return encoded(made, syntax)


# An attribute of no length: nothing costs more per byte.
SMALL = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 0)


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def datasets(syntax: str) -> list[bytes]:
    if syntax == DEFLATED:
        return [deflated(dataset(EXPLICIT)), deflated(bytes(50 << 20)), deflated(SMALL * (2 << 20))]
    return [dataset(syntax)]


def nesting(syntax: str, content: bytes) -> None:
    """What is odd is read from the file's beginning on."""
    head = file_head("1.2.3", "1.2.4", syntax)
    file = BytesIO(head + content)
    file.seek(len(head))
    refuse_deep(file, syntax)


@dataclass(frozen=True)
class Parser:
    """What reads bytes, beginnings that are valid, and the errors that who calls it expects."""

    read: Callable[[bytes], object]
    seeds: list[bytes]
    errors: tuple[type[Exception], ...] = (RequestError,)
    examples: int = 60


PARSERS = {
    "DICOM JSON": Parser(
        lambda body: checked(read_json(body)),
        [b'{"00100010":{"vr":"PN","Value":[{"Alphabetic":"Doe^Jane"}]}}', b'{"0040A730":{"vr":"SQ","Value":[{}]}}', b"[[[[1e9"],
    ),
    "Native DICOM Model": Parser(
        lambda body: checked(read_xml(body)),
        [
            b'<NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Value number="1">x</Value></DicomAttribute>'
            b"</NativeDicomModel>",
            b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>',
        ],
    ),
    "multipart": Parser(multipart, [b"--b\r\nContent-Type: application/dicom\r\n\r\nx\r\n--b--\r\n", b"\r\n-\r\n--\r\n--b"]),
    "query": Parser(search, [b"PatientName=*a*b&limit=10&includefield=all", b"0040A730.00080100=1&StudyDate=20200101-"]),
    "filter": Parser(lambda query: filter_of(request(query)), [b"filter=0040A730.00080100%3D1%2C00741204%3Da", b"PatientID=1"]),
    "accept": Parser(
        lambda header: answer_type(header.decode("latin-1")),
        [b'multipart/related; type="application/dicom+json";q=0.5, */*', b';=";",'],
    ),
    "content type": Parser(lambda header: body_type(header.decode("latin-1")), [b'application/dicom+json; charset="utf-8"']),
    "rendering": Parser(
        lambda query: rendering(pairs(request(query)), "image/jpeg"), [b"viewport=10,10&window=1,2,linear&quality=80"]
    ),
    "items of a PDU": Parser(
        lambda content: [list(items(inner)) for _, inner in items(memoryview(content))],
        [item(0x20, item(0x30, b"1.2") + item(0x40, b"1.2.840.10008.1.2"))],
        (BrokenError, struct.error),
    ),
    "command set": Parser(elements, [struct.pack("<HHIH", 0, 0x0100, 2, 1) * 3], (BrokenError, struct.error)),
    **{
        f"identifier {syntax}": Parser(
            partial(decoded, syntax=syntax),
            [dataset(syntax)],
            (ValueError,),
        )
        for syntax in (IMPLICIT, EXPLICIT)
    },
    **{
        f"beginning {syntax}": Parser(
            partial(beginning, syntax),
            datasets(syntax),
            # Who calls it names the instance as one that can't be read.
            (Exception,),
            examples=10 if syntax == DEFLATED else 60,
        )
        for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
    },
    **{
        f"nesting {syntax}": Parser(
            partial(nesting, syntax),
            datasets(syntax),
            (ValueError,),
            examples=10 if syntax == DEFLATED else 60,
        )
        for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
    },
    "file": Parser(
        lambda content: read_syntax(BytesIO(content)),
        [bytes(128) + b"DICM\2\0\0\0UL\4\0\4\0\0\0\2\0\x10\0UI\2\x001\0"],
        (Exception,),
    ),
}


@st.composite
def attacks(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid beginning with a piece of it many times over, a few bytes that are others, and an end that may be anything."""
    seed = draw(st.sampled_from(seeds))
    begin = draw(st.integers(0, len(seed) - 1))
    end = draw(st.integers(begin + 1, len(seed)))
    times = draw(st.sampled_from([1, 2, 50, LONGEST // (end - begin)]))
    made = bytearray(seed[:begin] + seed[begin:end] * times + seed[end:])
    for _ in range(draw(st.integers(0, 3))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.sampled_from([len(made), len(made) - 1, len(made) // 2]))]) + draw(st.binary(max_size=8))


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends what takes more processor time than an example may."""

    def end(_: int, __: FrameType | None) -> NoReturn:
        raise AssertionError(f"it took more than {MOST_SECONDS} s of the processor")

    former = signal.signal(signal.SIGVTALRM, end)
    tracemalloc.start()
    yield
    tracemalloc.stop()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, former)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_says_what_is_wrong_within_its_bounds(name: str) -> None:
    parser = PARSERS[name]
    parser.read(parser.seeds[0])

    @settings(max_examples=parser.examples)
    @given(attacks(parser.seeds))
    def attacked(content: bytes) -> None:
        tracemalloc.reset_peak()
        signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
        try:
            parser.read(content)
        except parser.errors:
            pass
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY, (len(content), content[:200])

    attacked()
