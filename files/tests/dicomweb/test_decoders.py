"""What a decoder that crashes, or never ends, costs those that run beside it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import time

import pytest
from dicomweb.decoders import Decoders
from dicomweb.errors import RequestError
from dicomweb.wado import checked_uid


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
