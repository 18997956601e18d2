"""Whether the host has space for what is sent to be stored."""

from __future__ import annotations

import errno
from pathlib import Path


def check_space(told: Path | None) -> None:
    """Raise OSError (ENOSPC) while a file is there that says what lacks space; its first line is the error's text."""
    if told is None:
        return
    try:
        said = told.read_text(encoding="utf-8", errors="replace").partition("\n")[0][:200]
    except FileNotFoundError:
        return
    raise OSError(errno.ENOSPC, said or "too little space is free", str(told))
