"""The pipeline as a whole, forwarder and monitor together: GET /pipeline for programs, / for people."""

from __future__ import annotations

from importlib import resources
from typing import Any

import requests
from pipeline.web import Watch
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route


def pipeline_state(monitor: dict[str, Any], forwarder: dict[str, Any] | None, forwarder_error: str) -> dict[str, Any]:
    """Return one state of both: studies and instances received, forwarded, extracted, waiting and failed, and seconds behind."""
    parts = [monitor] if forwarder is None else [forwarder, monitor]
    received = [part["counts"] for part in parts]
    counts = {}
    if forwarder is not None:
        counts["received"] = _total(forwarder["counts"].values())
        counts["forwarded"] = forwarder["counts"]["done"]
    counts["extracted"] = monitor["counts"]["done"]
    counts["waiting"] = _total(part["waiting"] for part in received)
    counts["failed"] = _total(part["failed"] for part in received)
    errors = [{"name": part["service"], "error": _error(part)} for part in parts]
    if forwarder_error:
        errors.insert(0, {"name": "pipeline-forwarder", "error": forwarder_error})
    return {
        "counts": counts,
        "arriving_instances": sum(part["arriving_instances"] for part in parts),
        "behind_seconds": max(part["behind_seconds"] for part in parts),
        "parts": errors,
        "problems": [problem | {"part": part["service"]} for part in parts for problem in part["problems"]],
    }


def _total(counts: Any) -> dict[str, int]:
    given = list(counts)
    return {what: sum(count[what] for count in given) for what in ("studies", "instances")}


def _error(part: dict[str, Any]) -> str:
    away = [part["orthanc"]] if part["orthanc"] != "ok" else []
    return "; ".join(away + list(part.get("servers_away", {}).values()))


class _Forwarder:
    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def ask(self) -> tuple[dict[str, Any] | None, str]:
        if not self._url:
            return None, ""
        try:
            answer = self._session.get(f"{self._url}/status", timeout=5)
            answer.raise_for_status()
            return answer.json(), ""
        except requests.RequestException as error:
            return None, f"it doesn't answer ({type(error).__name__})"


def page_routes(watch: Watch, forwarder_url: str) -> list[Route]:
    """Return the routes of the page."""
    forwarder = _Forwarder(forwarder_url)

    def state() -> dict[str, Any]:
        return pipeline_state(watch.state(), *forwarder.ask())

    async def pipeline(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(state), headers={"Cache-Control": "no-store"})

    async def page(_: Request) -> Response:
        return HTMLResponse(resources.files("pipeline_monitor").joinpath("page.html").read_text(encoding="utf-8"))

    return [Route("/pipeline", pipeline), Route("/", page)]
