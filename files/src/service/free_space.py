"""Whether the host has space for what is sent to be stored."""

from __future__ import annotations

import errno
from pathlib import Path

from dicomweb.errors import RequestError


def refused(error: OSError, message: str) -> RequestError:
    """Return the error of a request that a disk doesn't take: 507 where there is no space, 503 where it fails otherwise."""
    return RequestError(507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 503, message)


def check_space(told: Path | None) -> None:
    """Raise OSError (ENOSPC) while a file is there that says what lacks space; its first line is the error's text."""
    if told is None:
        return
    try:
        said = told.read_text(encoding="utf-8", errors="replace").partition("\n")[0][:200]
    except FileNotFoundError:
        return
    raise OSError(errno.ENOSPC, said or "too little space is free", str(told))
