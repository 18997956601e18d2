"""Words to and from systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tell systemd how far the service is (sd_notify(3)); without systemd, nobody."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
            notice.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            notice.sendall(state.encode())
