"""The mode `dicomweb`: requests pass to another DICOMweb server."""

from __future__ import annotations

import httpx
from dicomweb.passing import passed_on, path_of
from starlette.requests import Request
from starlette.responses import Response

from dimse_proxy.config import Config


class Forwarder:
    """Passes requests on as they are: searches to one address, stores and retrievals to another, nothing else."""

    def __init__(self, config: Config) -> None:
        settings = config.dicomweb_proxy_settings
        assert settings
        self._qido = settings.qido_forwarding_url.rstrip("/")
        self._wado = settings.wado_forwarding_url.rstrip("/")
        # They were for this proxy.
        self._kept_back = ("x-api-key", *(("authorization",) if config.api_key or config.basic_auth else ()))
        timeout = httpx.Timeout(config.silence_seconds, connect=min(config.silence_seconds, 10), pool=config.max_waiting_seconds)
        self._client = httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)

    async def forward(self, request: Request, *, is_search: bool) -> Response:
        """Answer as the other server does.

        Raises RequestError: 502, 504 where it doesn't answer, 400 where the path could be read in two ways.
        """
        base = self._qido if is_search else self._wado
        return await passed_on(self._client, request, base, path_of(request), self._kept_back)

    async def problem(self) -> str:
        """Return why the other server can't be reached, or nothing."""
        for base in dict.fromkeys((self._qido, self._wado)):
            try:
                async with self._client.stream("GET", f"{base}/studies?limit=1"):
                    pass
            except httpx.HTTPError as error:
                return f"{base} can't be reached: {error or type(error).__name__}"
        return ""

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()
