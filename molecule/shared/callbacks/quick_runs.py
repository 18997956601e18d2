"""Spares the test's plays what each run of Ansible would do anew, which is a quarter of its processor time on the control node."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path
from typing import Any

import ansible.constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

DOCUMENTATION = """
name: quick_runs
type: notification
short_description: Modules that were packed for a host are packed once for all plays, and less garbage is looked for
description: Only for the tests. What a play does, and what it sends to its hosts, is the same.
options: {}
"""

PROJECT = Path(__file__).parents[3]
# Ansible forks a process for each task. Whatever the collector touches there is copied first.
COLLECT_AFTER = 100_000


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "quick_runs"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        keep_packed_modules()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)


def keep_packed_modules() -> None:
    """Have Ansible's modules packed where the next run finds them, as long as Ansible and the project's modules are the same.

    Ansible packs each module, with all that it imports, once in a run, below a directory that it removes at the run's end. It locks
    what it writes there, so runs side by side may share it.
    """
    kept = PROJECT / ".cache/packed_modules" / state_of_modules()
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    (Path(ansible.constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache").symlink_to(kept)


def state_of_modules() -> str:
    """Return a name for the version of Ansible and of every module of the project."""
    sums = hashlib.sha256(__version__.encode())
    for directory in ("library", "module_utils"):
        for path in sorted(PROJECT.glob(f"roles/*/{directory}/*.py")):
            sums.update(f"{path.relative_to(PROJECT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sums.hexdigest()
