"""Studies of a DICOMweb server, as files: what `mkdicomweb create` renders of an address (WADO-RS, PS3.18 10.4)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import httpx
from dicomweb.errors import RequestError
from dicomweb.multipart import read_parts

_HEADERS = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*', "Accept-Encoding": "identity"}
_SILENCE_SECONDS = 60.0


class UnavailableError(Exception):
    """An address has no study that can be had; says why."""


def fetch(address: str, directory: Path) -> list[Path]:
    """Write the instances of a study, series or instance into a directory that is made; return the files.

    A user and a password are looked for in ~/.netrc, or in the file that NETRC names, authorities' certificates in the file that
    SSL_CERT_FILE names. Raises UnavailableError where not all of them come, and OSError where the disk doesn't take them.
    """
    directory.mkdir()
    return asyncio.run(_fetch(address, directory))


async def _fetch(address: str, directory: Path) -> list[Path]:
    files: list[Path] = []
    try:
        async with (
            httpx.AsyncClient(timeout=_SILENCE_SECONDS, follow_redirects=True, auth=_auth()) as client,
            client.stream("GET", address.rstrip("/"), headers=_HEADERS) as answer,
        ):
            if answer.status_code != 200:
                raise UnavailableError(f"it answers {answer.status_code} {answer.reason_phrase}")
            async for _, content in read_parts(answer.headers.get("content-type", ""), answer.aiter_bytes()):
                path = directory / f"{len(files) + 1}.dcm"
                with path.open("wb") as file:
                    async for piece in content:
                        file.write(piece)
                files.append(path)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(str(error) or type(error).__name__) from None
    except RequestError as error:
        raise UnavailableError(f"its answer is no instances: {error.message}") from None
    return files


def _auth() -> httpx.Auth | None:
    with contextlib.suppress(OSError):
        return httpx.NetRCAuth(os.environ.get("NETRC"))
    return None
