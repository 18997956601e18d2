"""The addresses of DICOMweb's resources (PS3.18 10.3), as Starlette has paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.routing import Route
from starlette.types import ASGIApp

from dicomweb.transaction import Handler
from dicomweb.wado import Wado

STUDY, SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
INSTANCE = f"{SERIES}/instances/{{instance}}"
SEARCHES = {
    "/studies": "STUDY",
    "/series": "SERIES",
    "/instances": "IMAGE",
    f"{STUDY}/series": "SERIES",
    f"{STUDY}/instances": "IMAGE",
    f"{SERIES}/instances": "IMAGE",
}
"""Addresses of searches, and the level of what they find."""


def retrievals(wado: Wado, transaction: Callable[[str, Handler], ASGIApp]) -> Iterator[Route]:
    """Yield where instances are retrieved, and what of them."""
    frame = f"{INSTANCE}/frames/{{frames}}"
    for path in (STUDY, SERIES, INSTANCE):
        yield Route(path, transaction("retrieve", wado.retrieve), methods=["GET"])
        yield Route(f"{path}/metadata", transaction("metadata", wado.metadata), methods=["GET"])
        yield Route(f"{path}/bulkdata", transaction("bulk data", wado.all_bulk_data), methods=["GET"])
    for path in (STUDY, SERIES, INSTANCE, frame):
        yield Route(f"{path}/rendered", transaction("rendered", wado.rendered), methods=["GET"])
        yield Route(f"{path}/thumbnail", transaction("thumbnail", wado.thumbnail), methods=["GET"])
    yield Route(frame, transaction("frames", wado.frames), methods=["GET"])
    yield Route(f"{INSTANCE}/bulkdata/{{path}}", transaction("bulk data", wado.bulk_data), methods=["GET"])
    yield Route("/wado", transaction("wado-uri", wado.uri), methods=["GET"])
