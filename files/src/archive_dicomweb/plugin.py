"""Orthanc's own DICOMweb plugin, where the index is of a version that this service doesn't read."""

from __future__ import annotations

import httpx
from dicomweb.http import warning_headers
from dicomweb.passing import passed_on, path_of
from dicomweb.transaction import Handler
from starlette.requests import Request
from starlette.responses import Response

from archive_dicomweb.index import UnknownIndexError

_ROOT = "/dicom-web"
# Outside of that root, at Orthanc as here.
_WADO_URI = "/wado"
# Who asks has proved who he is before; Orthanc knows this service alone. The plugin has Warnings of its own.
_KEPT_BACK = ("authorization", "cookie")


class Plugin:
    """Answers in place of handlers that can't read the index."""

    def __init__(self, orthanc: httpx.AsyncClient) -> None:
        self._orthanc = orthanc

    def instead(self, handler: Handler) -> Handler:
        """Return a handler that answers as `handler` does, or else as the plugin does, with a Warning that says so."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except UnknownIndexError as error:
                return await self._answer(request, error.message)

        return answer

    async def _answer(self, request: Request, reason: str) -> Response:
        path = path_of(request)
        answer = await passed_on(self._orthanc, request, "" if path == _WADO_URI else _ROOT, path, _KEPT_BACK)
        warning = warning_headers(request, (f"{reason} Orthanc's plugin has answered.",))
        answer.raw_headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in warning.items()]
        return answer
