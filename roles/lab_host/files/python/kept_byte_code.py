"""Keeps what Python compiles of a zip file's modules, as it keeps that of files.

Ansible sends a zip file for each task, with the same modules in nearly all of them: without this, compiling them is a third of what
a task costs a host. Each interpreter of a lab host imports this by kept_byte_code.pth, but for those of virtual environments. What
a host does, and what Ansible sends to it, is the same.
"""

from __future__ import annotations

import os
import sys
import zipimport
from types import CodeType

KEPT = f"/var/cache/lab-byte-code/{sys.implementation.cache_tag}"

compile_source = zipimport._compile_source  # type: ignore[attr-defined]


def kept_or_compiled(path: str, source: bytes) -> CodeType:
    """Return the code of a module's source; path is the zip file's with the module's own below it."""
    # These take longer to import than a host's other programs should wait for them.
    import hashlib
    import marshal
    from pathlib import Path

    name = path.rpartition(".zip/")[2]
    kept = Path(KEPT, hashlib.sha256(name.encode() + b" " + source).hexdigest())
    try:
        known: CodeType = marshal.loads(kept.read_bytes())
    except (OSError, EOFError, ValueError, TypeError):
        code: CodeType = compile_source(path, source)
    else:
        return known
    # Only root's is kept: nobody else writes there, or reads.
    if os.geteuid() == 0:
        try:
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = kept.with_suffix(f".{os.getpid()}")
            beside.write_bytes(marshal.dumps(code))
            beside.rename(kept)
        except OSError:
            pass
    return code


zipimport._compile_source = kept_or_compiled  # type: ignore[attr-defined]
