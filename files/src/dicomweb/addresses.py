"""The addresses of DICOMweb's resources (PS3.18 10.3), as Starlette has paths."""

from __future__ import annotations

import re
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


_FRAME = f"{INSTANCE}/frames/{{frames}}"
RETRIEVALS = {
    **dict.fromkeys((STUDY, SERIES, INSTANCE), ("retrieve", "retrieve")),
    **{f"{path}/metadata": ("metadata", "metadata") for path in (STUDY, SERIES, INSTANCE)},
    **{f"{path}/bulkdata": ("bulk data", "all_bulk_data") for path in (STUDY, SERIES, INSTANCE)},
    **{f"{path}/rendered": ("rendered", "rendered") for path in (STUDY, SERIES, INSTANCE, _FRAME)},
    **{f"{path}/thumbnail": ("thumbnail", "thumbnail") for path in (STUDY, SERIES, INSTANCE, _FRAME)},
    _FRAME: ("frames", "frames"),
    f"{INSTANCE}/bulkdata/{{path}}": ("bulk data", "bulk_data"),
    "/wado": ("wado-uri", "uri"),
}
"""Addresses that instances are retrieved at: the transaction's name, and Wado's method that answers it."""

# Never encoded: what a path's structure is made of, so that whoever decodes it reads the same path; and controls.
_NORMAL = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%(?!2[EeFf]|25|3[Bb]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])[0-9A-Fa-f]{2})+)+/?"
)


def is_normal(path: str) -> bool:
    """Return whether a path, as it was sent, is in a form that everybody reads alike (RFC 3986 6.2.2)."""
    return _NORMAL.fullmatch(path) is not None


def retrievals(wado: Wado, transaction: Callable[[str, Handler], ASGIApp]) -> Iterator[Route]:
    """Yield where instances are retrieved, and what of them."""
    for path, (name, method) in RETRIEVALS.items():
        yield Route(path, transaction(name, getattr(wado, method)), methods=["GET"])
