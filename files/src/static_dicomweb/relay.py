"""What arrives, passed on to another application entity by C-STORE: kept until that one has taken it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from dimse.new_file import sync_directory
from dimse.send import File, Sender, read_file

_LOG = logging.getLogger("static_dicomweb")
_LOOK_SECONDS = 1.0
_LONGEST_WAIT = 300.0


class Relay:
    """Files in a directory of their own, which a thread sends."""

    def __init__(self, directory: Path, sender: Sender) -> None:
        """Go on with what a former process left there. Raises OSError where it can't be made."""
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._sender = sender

    def take(self, path: Path, name: str) -> None:
        """Pass on a file that is whole and synced, under a name of its own; raise OSError where it can't be kept for that."""
        (self._directory / name).hardlink_to(path)
        sync_directory(self._directory)

    def start(self) -> None:
        """Send from now on."""
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def _run(self) -> None:
        wait = _LOOK_SECONDS
        while True:
            has_failed = self._send_all()
            wait = min(wait * 2, _LONGEST_WAIT) if has_failed else _LOOK_SECONDS
            time.sleep(wait)

    def _send_all(self) -> bool:
        """Send what is there; return whether something of it failed, which stays."""
        files = []
        for path in sorted(self._directory.iterdir()):
            found = read_file(path)
            if isinstance(found, File):
                files.append(found)
        has_failed = False
        try:
            for file, problem in self._sender.send(files):
                if problem:
                    _LOG.warning("%s is not passed on: %s; it is tried again", file.path, problem)
                    has_failed = True
                else:
                    file.path.unlink()
        except (ConnectionError, OSError) as error:
            _LOG.warning("%d instances are not passed on: %s; it is tried again", len(files), error)
            has_failed = True
        finally:
            self._sender.leave()
        return has_failed
