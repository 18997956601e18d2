"""The services of a host: whether they are those that they were, and how much memory they have had."""

from __future__ import annotations

from dataclasses import dataclass

from hosts import Host

_PROGRAM = r"""
show() { systemctl show --value --property="$1" "$unit"; }
for unit in $(systemctl list-units --type=service --state=running --plain --no-legend \
    'orthanc@*' 'archive-dicomweb*' 'pyupsrs*' 'nginx*' 'haproxy*' 'postgresql@*' 'static-dicomweb*' \
    'dicomweb-proxy*' | cut -d' ' -f1); do
  group=$(show ControlGroup)
  peaks=0
  for process in $(cat "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/systemd$group/cgroup.procs" 2>/dev/null); do
    peak=$(awk '/^VmHWM:/ {print $2}' "/proc/$process/status" 2>/dev/null)
    peaks=$((peaks + ${peak:-0}))
    # From here on its peak is what it has now (proc(5)).
    echo 5 > "/proc/$process/clear_refs"
  done
  echo "$unit $(show MainPID) $(show NRestarts) $(show MemoryMax) $peaks"
done
"""


@dataclass(frozen=True)
class Service:
    """A service that runs: its main process, how often systemd has started it anew, and memory in MB, at most and at its peak.

    The peak is that since the services were last looked at.
    """

    main_process: int
    restarts: int
    most_memory: float
    peak_memory: float


def services(host: Host) -> dict[str, Service]:
    """Return the site's services by their units."""
    found = {}
    for line in host.run(_PROGRAM).splitlines():
        unit, process, restarts, most, peak = line.split()
        limit = float("inf") if most == "infinity" else int(most) / (1 << 20)
        found[unit] = Service(int(process), int(restarts), limit, int(peak) / 1024)
    return found
