"""What a decoder that crashes, or never ends, costs those that run beside it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
from dicomweb.decoders import Decoders
from dicomweb.errors import RequestError
from dicomweb.retrieval_request import checked_uid


def test_a_decoder_that_ends_costs_one_answer() -> None:
    async def run() -> None:
        decoders = Decoders(longest=2)
        others = [asyncio.create_task(decoders.decode(pow, 2, power)) for power in range(6)]
        for crash in (decoders.decode(ctypes.string_at, 0), decoders.decode(os._exit, 0)):
            with pytest.raises(RequestError, match="the decoder crashed") as found:
                await crash
            assert found.value.status == 406
        with pytest.raises(RequestError, match="within 2 seconds") as found:
            await decoders.decode(time.sleep, 600)
        assert found.value.status == 503
        assert await asyncio.gather(*others) == [1, 2, 4, 8, 16, 32]
        assert await decoders.decode(os.getpid) != os.getpid()

    asyncio.run(run())


def test_an_error_is_told_as_it_was_raised() -> None:
    with pytest.raises(RequestError, match="'no uid' is no UID") as found:
        asyncio.run(Decoders().decode(checked_uid, "no uid"))
    assert found.value.status == 400
    copied = pickle.loads(pickle.dumps(RequestError(413, "too large", "a warning")))
    assert (copied.status, copied.message, copied.warning) == (413, "too large", "a warning")


def test_who_leaves_ends_the_decoder() -> None:
    async def run() -> float:
        decoders = Decoders()
        tasks = [asyncio.create_task(decoders.decode(time.sleep, 600)) for _ in range(4)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return await decoders.decode(float, "1")

    assert asyncio.run(run()) == 1


def test_one_that_was_killed_while_it_did_nothing_costs_no_answer() -> None:
    async def run() -> None:
        decoders = Decoders()
        first = await decoders.decode(os.getpid)
        os.kill(first, signal.SIGKILL)
        while Path(f"/proc/{first}").exists():
            await asyncio.sleep(0.01)
        assert await decoders.decode(os.getpid) != first

    asyncio.run(run())


def test_one_that_hangs_is_ended_without_what_has_forked_it() -> None:
    async def run() -> int:
        decoders = Decoders(longest=2)
        first = await decoders.decode(os.getpid)
        hung = asyncio.create_task(decoders.decode(time.sleep, 600))
        await asyncio.sleep(0.2)
        os.kill(parent_of(first), signal.SIGKILL)
        assert await decoders.decode(abs, -1) == 1
        with pytest.raises(RequestError, match="within 2 seconds"):
            await hung
        return first

    hung = asyncio.run(run())
    ended = time.monotonic() + 30
    while is_running(hung):
        assert time.monotonic() < ended, "the process that hung is still there"
        time.sleep(0.05)


def test_who_leaves_while_a_process_starts_leaves_nothing_open() -> None:
    async def run() -> int:
        decoders = Decoders()
        await decoders.decode(abs, -1)
        before = open_files()
        for number in range(40):
            leaving = asyncio.create_task(decoders.decode(time.sleep, 600))
            await asyncio.sleep(number % 8 / 1000)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        # What starts in a thread comes to its end by itself, and what has ended is forgotten when another starts.
        deadline = time.monotonic() + 30
        while open_files() > before + 4 and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return open_files() - before

    assert asyncio.run(run()) <= 4


def open_files() -> int:
    multiprocessing.active_children()
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
