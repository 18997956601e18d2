"""Where pixels are decoded: in a few processes beside the one that answers.

Decoders are written in C, and get what strangers have made. One that crashes, or never comes to an end, ends a process that does
nothing else, and costs the one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
from anyio import BrokenWorkerProcess, to_process, to_thread

from dicomweb.errors import RequestError

_Result = TypeVar("_Result")
# Of each process that answers. What many clients ask for at once waits, so that it can't fill the memory.
_MOST_AT_ONCE = 2
# Seconds: the largest frame that is rendered takes some ten.
_LONGEST = 60.0


class Decoders:
    """What takes the processor's time, at most two at a time of each kind."""

    def __init__(self, longest: float = _LONGEST) -> None:
        """`longest` is the time in seconds that one decoding may take."""
        self._longest = longest
        self._limiters: tuple[anyio.CapacityLimiter, anyio.CapacityLimiter] | None = None

    def _limits(self) -> tuple[anyio.CapacityLimiter, anyio.CapacityLimiter]:
        # They belong to the event loop, which isn't there yet when this is made.
        self._limiters = self._limiters or (anyio.CapacityLimiter(_MOST_AT_ONCE), anyio.CapacityLimiter(_MOST_AT_ONCE))
        return self._limiters

    async def read(self, work: Callable[..., _Result], *given: object) -> _Result:
        """Return what `work` makes, in a thread: what decodes nothing."""
        return await to_thread.run_sync(partial(work, *given), limiter=self._limits()[0])

    async def decode(self, work: Callable[..., _Result], *given: object) -> _Result:
        """Return what `work`, a function of a module, makes in a process.

        Raises RequestError: its own, 406 where the process ends, 503 where it takes too long.
        """
        limit = self._limits()[1]
        async with limit:
            try:
                with anyio.fail_after(self._longest):
                    return await to_process.run_sync(partial(work, *given), cancellable=True, limiter=anyio.CapacityLimiter(1))
            except BrokenWorkerProcess:
                raise RequestError(406, "The instance can't be decoded: the decoder crashed.") from None
            except TimeoutError:
                message = f"The instance wasn't decoded within {self._longest:g} seconds."
                raise RequestError(503, message) from None
