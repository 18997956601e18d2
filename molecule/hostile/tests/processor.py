"""How much of the machine's processor is left to a lab host by all else that runs on the machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Where systemd-nspawn's cgroup of a host is, as boot.sh has it: with one hierarchy, and beside version 1.
_HIERARCHIES = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")


@dataclass(frozen=True)
class Used:
    """Seconds of processor time until a moment: of the whole machine, and of one lab host."""

    moment: float
    machine: float
    host: float

    @classmethod
    def now(cls, host: str) -> Used:
        """Return what was used until now."""
        user, nice, system, _idle, _wait, irq, soft, steal, *_ = (int(field) for field in _line("/proc/stat", "cpu").split())
        (group,) = (path for path in (each / f"dicomweb-lab-{host}/cpu.stat" for each in _HIERARCHIES) if path.exists())
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        return cls(time.monotonic(), busy, int(_line(str(group), "usage_usec")) / 1e6)


def share_left(before: Used, after: Used) -> float:
    """Return the share of the machine's processors that others than the host left to it, from 0 to 1."""
    others = (after.machine - before.machine) - (after.host - before.host)
    return min(max(1 - others / ((os.cpu_count() or 1) * (after.moment - before.moment)), 0.0), 1.0)


def _line(path: str, name: str) -> str:
    """Return what follows a name in a file of names and numbers."""
    (found,) = (line for line in Path(path).read_text().splitlines() if line.split(" ", 1)[0] == name)
    return found.partition(" ")[2]
