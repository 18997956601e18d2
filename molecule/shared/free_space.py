"""A host of which more is asked to be free than any disk has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hosts import Host
from pipeline_services import wait_for

WATCH = "/usr/local/sbin/dicomweb-free-space"
TOLD = "/var/lib/dicomweb-free-space/too-little"


@contextmanager
def nearly_full(host: Host) -> Iterator[None]:
    """Have stores refused, as on a full disk, until the end."""
    host.run(f"sed -i.before s/2048/999999999/g {WATCH} && systemctl restart dicomweb-free-space")
    try:
        wait_for(lambda: host.shell.file(TOLD).exists)
        yield
    finally:
        host.run(f"mv {WATCH}.before {WATCH} && systemctl restart dicomweb-free-space")
        wait_for(lambda: not host.shell.file(TOLD).exists)
