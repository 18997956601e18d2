"""The service's addresses, over HTTP and WebSocket."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import psycopg
from dicomweb import http
from dicomweb.dataset import Dataset, first
from dicomweb.errors import RequestError
from dicomweb.query import Matching, parse_query
from psycopg_pool import PoolTimeout
from service.database import Connection, Pool, make_pool, unavailable
from service.settings import read_settings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from upsrs import events, metrics, outbox, store, tags, wire
from upsrs.capabilities import methods_of, wadl
from upsrs.channel import Dispatcher
from upsrs.database import forget_commits, in_transaction
from upsrs.names import checked_ae_title, checked_uid, is_ae_title
from upsrs.settings import Settings
from upsrs.worklist import Answer, Worklist

_LOG = logging.getLogger("upsrs")
_TIDY_INTERVAL = 300.0
# No request waits this long for a database that is away, whatever the clocks of several hosts say.
_COMMITS_KEPT = datetime.timedelta(days=1)
# How long whoever asks for the state of the service waits for the database, in seconds.
_STATE_PATIENCE = 3.0
_TIDY_BATCH = 1000

Handler = Callable[["_Service", Request], Awaitable[Response]]


class _Service:
    """What the handlers of one worker share."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        uri = settings.database_uri.get_secret_value()
        self.settings = settings
        self.pool = pool
        self.worklist = Worklist(pool, settings)
        self.dispatcher = Dispatcher(pool, uri, settings.acknowledge_seconds)
        self.most = settings.max_body_kb * 1024

    async def tidy(self) -> None:
        """Delete what the settings no longer keep, now and then."""
        while True:
            with contextlib.suppress(psycopg.Error, PoolTimeout):
                await self._tidy_once()
            await anyio.sleep(_TIDY_INTERVAL)

    async def _tidy_once(self) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        async with self.pool.connection() as connection:
            await forget_commits(connection, now - _COMMITS_KEPT)
            expired = await outbox.delete_old(connection, now - datetime.timedelta(days=self.settings.event_retention_days))
        if expired:
            metrics.EVENTS_EXPIRED.inc(expired)
            _LOG.warning("events expired count=%d: their subscribers stayed away", expired)
        deleted = _TIDY_BATCH if self.settings.retention_days else 0
        while deleted == _TIDY_BATCH:
            async with self.pool.connection() as connection:
                before = now - datetime.timedelta(days=self.settings.retention_days)
                deleted = await store.delete_finished(connection, before, _TIDY_BATCH)
            metrics.WORKITEMS_DELETED.inc(deleted)
            if deleted:
                _LOG.info("workitems deleted count=%d", deleted)


def _transaction(name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Answer by a handler, or with the error that it raises; log one line and count."""

    async def answer(request: Request) -> Response:
        begun = time.perf_counter()
        reason = ""
        try:
            response = await handler(request.app.state.service, request)
        except RequestError as problem:
            response = http.error(request, problem)
            reason = problem.message
        except (psycopg.OperationalError, PoolTimeout) as problem:
            response = http.error(request, unavailable())
            reason = type(problem).__name__
        seconds = time.perf_counter() - begun
        metrics.REQUESTS.labels(name, response.status_code).inc()
        metrics.SECONDS.labels(name).observe(seconds)
        # What is wrong names attributes and may show their values: it is for the client, and for the log only where asked.
        uid = getattr(request.state, "uid", request.path_params.get("uid", "-"))
        _LOG.info("%s uid=%.64s status=%d ms=%.1f", name, uid if uid.isprintable() else "-", response.status_code, seconds * 1000)
        if reason:
            _LOG.debug("%s refused: %s", name, reason)
        return response

    return answer


def _answered(request: Request, answer: Answer, extra: dict[str, str] | None = None) -> Response:
    return Response(status_code=answer.status, headers=http.warning_headers(request, answer.warnings) | (extra or {}))


def _answered_about(request: Request, answer: Answer) -> Response:
    """Answer with the address of the workitem that was asked for."""
    return _answered(request, answer, {"Content-Location": http.public_url(request, "workitems", answer.uid)})


def _uid(request: Request) -> str:
    return checked_uid(request.path_params["uid"])


def _parameter(request: Request, *names: str) -> str | None:
    """Return a parameter by any of its names, in any case: the editions of the standard differ."""
    return next((value for name, value in http.pairs(request) if name.lower() in names and value), None)


def _transaction_uid(request: Request, body: Dataset) -> str | None:
    named = {value for value in (_parameter(request, "transaction-uid", "transaction"), first(body, tags.TRANSACTION_UID)) if value}
    if len(named) > 1:
        raise RequestError(400, "The address and the body have different Transaction UIDs: give one.")
    return checked_uid(named.pop(), "The Transaction UID") if named else None


def _requester(request: Request) -> str | None:
    named = request.path_params.get("requester") or _parameter(request, "requester")
    # The user that nginx has let in, where his name can be one of an AE.
    user = request.headers.get("x-remote-user", "")
    return checked_ae_title(named) if named else user if is_ae_title(user) else None


async def _create(service: _Service, request: Request) -> Response:
    wire.wanted_type(request)
    uid: str | None = None
    for name, value in http.pairs(request):
        if name.lower() == "accept":
            continue
        # Older editions have the bare UID as the query.
        named = value if name.lower() in {"workitem", "affectedsopinstanceuid"} else name if not value else None
        if named is None or uid is not None:
            raise RequestError(400, f"The parameter {name[:80]!r} is unknown or one too many: give ?workitem= and the UID.")
        uid = checked_uid(named)
    answer = await service.worklist.create(await wire.read_dataset(request, service.most), uid)
    request.state.uid = answer.uid
    location = http.public_url(request, "workitems", answer.uid)
    return _answered(request, answer, {"Location": location, "Content-Location": location})


async def _search(service: _Service, request: Request) -> Response:
    kind = wire.wanted_type(request)
    query = parse_query(pair for pair in http.pairs(request) if pair[0].lower() != "accept")
    answer = await service.worklist.search(query)
    headers = http.warning_headers(request, answer.warnings) | {"Cache-Control": "no-cache"}
    return http.many_datasets(answer.datasets, kind, answer.status, headers)


async def _retrieve(service: _Service, request: Request) -> Response:
    kind = wire.wanted_type(request)
    answer = await service.worklist.retrieve(_uid(request))
    headers = {"Content-Location": http.public_url(request, "workitems", answer.uid), "Cache-Control": "no-cache"}
    return wire.one_dataset(answer.datasets[0], kind, 200, headers, as_array=service.settings.answer_with_array)


async def _update(service: _Service, request: Request) -> Response:
    uid = _uid(request)
    wire.wanted_type(request)
    body = await wire.read_dataset(request, service.most)
    transaction_uid = _transaction_uid(request, body)
    if request.method == "POST" and not transaction_uid and body and set(body) <= set(events.CANCELLATION):
        # Some clients ask for a cancellation here. None of these is an attribute of a workitem itself, so it can't be an update.
        answer = await service.worklist.request_cancellation(uid, body, _requester(request))
    else:
        answer = await service.worklist.update(uid, body, transaction_uid)
    return _answered_about(request, answer)


async def _change_state(service: _Service, request: Request) -> Response:
    uid = _uid(request)
    wire.wanted_type(request)
    body = await wire.read_dataset(request, service.most)
    requested = first(body, tags.STATE)
    if requested is None:
        raise RequestError(400, "The body has no 00741000 (ProcedureStepState): give the state asked for.")
    answer = await service.worklist.change_state(uid, str(requested), _transaction_uid(request, body))
    return _answered_about(request, answer)


async def _request_cancellation(service: _Service, request: Request) -> Response:
    uid = _uid(request)
    wire.wanted_type(request)
    body = await wire.read_dataset(request, service.most, may_be_empty=True)
    answer = await service.worklist.request_cancellation(uid, body, _requester(request))
    return _answered_about(request, answer)


async def _subscribe(service: _Service, request: Request) -> Response:
    uid, aetitle = _uid(request), checked_ae_title(request.path_params["aetitle"])
    lock = (_parameter(request, "deletionlock") or "false").lower()
    if lock not in {"true", "false"}:
        raise RequestError(400, f"The parameter deletionlock is {lock[:20]!r}: give true or false.")
    matching: Matching = wire.filter_of(request)
    answer = await service.worklist.subscribe(uid, aetitle, lock == "true", matching)
    return _answered(request, answer, {"Content-Location": wire.channel_url(request, aetitle)})


async def _unsubscribe(service: _Service, request: Request) -> Response:
    answer = await service.worklist.unsubscribe(_uid(request), checked_ae_title(request.path_params["aetitle"]))
    return _answered(request, answer)


async def _suspend(service: _Service, request: Request) -> Response:
    answer = await service.worklist.suspend(_uid(request), checked_ae_title(request.path_params["aetitle"]))
    return _answered(request, answer)


async def _capabilities(service: _Service, request: Request) -> Response:
    kind = "application/vnd.sun.wadl+xml"
    accept = request.headers.get("accept", "")
    if accept and not any(name in accept for name in (kind, "application/xml", "text/xml", "*/*", "application/*")):
        raise RequestError(406, f"The capabilities are {kind}.")
    document = wadl(http.public_url(request).rstrip("/"))
    return Response(document, headers={"Allow": ", ".join(methods_of(request.url.path))}, media_type=kind)


async def _health(service: _Service, request: Request) -> Response:
    async def ask(connection: Connection) -> None:
        await connection.execute("SELECT 1")

    try:
        await in_transaction(service.pool, ask, changes=False, patience=_STATE_PATIENCE)
    except RequestError:
        return PlainTextResponse("The database can't be reached.\n", 503)
    return PlainTextResponse("ok\n")


async def _metrics(service: _Service, request: Request) -> Response:
    async def count(connection: Connection) -> tuple[dict[str, int], int]:
        cursor = await connection.execute("SELECT state, count(*) FROM workitems WHERE deleted_at IS NULL GROUP BY state")
        by_state: dict[str, int] = dict(await cursor.fetchall())
        row = await (await connection.execute("SELECT count(*) FROM events")).fetchone()
        return by_state, row[0] if row else 0

    page = metrics.page(*await in_transaction(service.pool, count, changes=False, patience=_STATE_PATIENCE))
    return Response(page, media_type="text/plain; version=0.0.4")


async def _channel(websocket: WebSocket) -> None:
    try:
        await websocket.app.state.service.dispatcher.serve(websocket, websocket.path_params["aetitle"])
    except RequestError as problem:
        await websocket.send_denial_response(http.error(websocket, problem))
    except (psycopg.Error, PoolTimeout):
        await websocket.send_denial_response(http.error(websocket, unavailable()))


async def _http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 405:
        message = f"{request.method} is not for this address."
        response = http.error(request, RequestError(405, message))
        response.headers["Allow"] = ", ".join(methods_of(request.url.path))
        return response
    return http.error(
        request,
        RequestError(problem.status_code, "There is nothing at this address." if problem.status_code == 404 else problem.detail),
    )


async def _failure(request: Request, problem: Exception) -> Response:
    return http.error(request, RequestError(500, "The service failed; its log has the reason."))


def _route(path: str, **handlers: tuple[str, Handler]) -> Route:
    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await answers[method](request)

    answers = {method: _transaction(name, handler) for method, (name, handler) in handlers.items()}
    answers["OPTIONS"] = _transaction("capabilities", _capabilities)
    return Route(path, answer, methods=list(answers))


_ROUTES = [
    Route("/health", _transaction("health", _health)),
    Route("/metrics", _transaction("metrics", _metrics)),
    _route("/"),
    _route("/workitems", GET=("search", _search), POST=("create", _create)),
    # Some clients update by PUT.
    _route("/workitems/{uid}", GET=("retrieve", _retrieve), POST=("update", _update), PUT=("update", _update)),
    _route("/workitems/{uid}/state", PUT=("change state", _change_state)),
    _route("/workitems/{uid}/state/{requester}", PUT=("change state", _change_state)),
    _route("/workitems/{uid}/cancelrequest", POST=("request cancellation", _request_cancellation)),
    _route("/workitems/{uid}/cancelrequest/{requester}", POST=("request cancellation", _request_cancellation)),
    # An AE title may have a slash.
    _route("/workitems/{uid}/subscribers/{aetitle:path}/suspend", POST=("suspend", _suspend)),
    _route("/workitems/{uid}/subscribers/{aetitle:path}", POST=("subscribe", _subscribe), DELETE=("unsubscribe", _unsubscribe)),
    WebSocketRoute("/ws/subscribers/{aetitle:path}", _channel),
]


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application of one worker, whose settings are the environment's unless given."""
    chosen = settings or read_settings(Settings)
    uri = chosen.database_uri.get_secret_value()
    pool = make_pool(uri, "pyupsrs", chosen.database_connections, chosen.database_patience, chosen.statement_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service = app.state.service = _Service(chosen, pool)
        await pool.open(wait=False)
        async with anyio.create_task_group() as group:
            group.start_soon(service.dispatcher.run)
            group.start_soon(service.tidy)
            yield
            group.cancel_scope.cancel()
        await pool.close()

    handlers = {HTTPException: _http_error, Exception: _failure}
    return Starlette(routes=_ROUTES, lifespan=lifespan, exception_handlers=handlers)
