"""One transaction of DICOMweb: an answer or an error, a line in the log, and numbers for Prometheus."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from dicomweb.answers import Stream
from dicomweb.errors import LostError, RequestError
from dicomweb.http import error
from dicomweb.instances import CutError

_LONGEST_QUERY = 16384
# At what is there, where it is replaced again and again meanwhile.
_LOOKS = 10

Handler = Callable[[Request], Awaitable[Response]]


class Meter:
    """What a service counts of its transactions."""

    def __init__(self, name: str, log: logging.Logger) -> None:
        """`name` is the beginning of the metrics' names; `log` has a line for each transaction."""
        self.log = log
        self.requests = Counter(f"{name}_requests_total", "Requests answered", ["transaction", "status"])
        self.seconds = Histogram(f"{name}_request_seconds", "Seconds from a request to the end of its answer", ["transaction"])
        self.cuts = Counter(f"{name}_cut_answers_total", "Answers that could not be completed")


class Transaction:
    """Answers by a handler or with the error that it raises; logs one line, counts, and stops when the client goes away."""

    def __init__(self, meter: Meter, name: str, handler: Handler) -> None:
        self._meter = meter
        self._name = name
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an application of ASGI."""
        request = Request(scope, receive)
        begun = time.perf_counter()
        reason = "the client left"
        status = 499
        try:
            async with anyio.create_task_group() as group:
                if request.method in ("GET", "HEAD"):
                    group.start_soon(_watch, receive, group.cancel_scope)
                response, reason = await self._answer(request, receive, send)
                status = response.status_code
                group.cancel_scope.cancel()
        finally:
            seconds = time.perf_counter() - begun
            is_cut = reason.startswith("cut")
            self._meter.requests.labels(self._name, status).inc()
            self._meter.seconds.labels(self._name).observe(seconds)
            self._meter.cuts.inc(is_cut)
            # Searches have names and dates in them: the path alone is told.
            path = scope["path"] if scope["path"].isprintable() else "-"
            line = "%s %.300s status=%d ms=%.1f%s"
            level = logging.WARNING if status >= 500 or is_cut else logging.INFO
            self._meter.log.log(level, line, self._name, path, status, seconds * 1000, f" {reason}" if reason else "")

    async def _answer(self, request: Request, receive: Receive, send: Send) -> tuple[Response, str]:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        for _ in range(_LOOKS):
            try:
                return await self._once(request, receive, noted)
            except LostError as problem:
                told = problem
                if begun or request.method not in ("GET", "HEAD"):
                    break
        response = error(request, told)
        await response(request.scope, receive, send)
        return response, told.message

    async def _once(self, request: Request, receive: Receive, send: Send) -> tuple[Response, str]:
        """Answer; raise LostError where a file is gone."""
        try:
            if len(request.scope["query_string"]) > _LONGEST_QUERY:
                raise RequestError(414, f"The query is longer than {_LONGEST_QUERY} bytes.")
            response = await self._handler(request)
            await response(request.scope, receive, send)
            return response, response.problem if isinstance(response, Stream) else ""
        except LostError:
            raise
        except (RequestError, CutError) as problem:
            cause = problem if isinstance(problem, RequestError) else problem.__cause__
            told = cause if isinstance(cause, RequestError) else RequestError(502, f"The archive: {problem}.")
        except Exception:
            self._meter.log.exception(self._name)
            told = RequestError(500, "The service failed; its log has the reason.")
        response = error(request, told)
        await response(request.scope, receive, send)
        return response, told.message


async def _watch(receive: Receive, everything: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    everything.cancel()


async def not_served(request: Request, problem: Exception) -> Response:
    """Answer where no transaction is."""
    assert isinstance(problem, HTTPException)
    message = "There is nothing at this address." if problem.status_code == 404 else f"{request.method} is not for this address."
    return error(request, RequestError(problem.status_code, message))
