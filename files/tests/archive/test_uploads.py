"""Files on their way to Orthanc, where it doesn't answer."""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive_dicomweb.uploads import Uploads


def test_who_waits_for_an_answer_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "instance.dcm"
    path.write_bytes(b"\0" * 100_000)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        uploads = Uploads(f"http://127.0.0.1:{server.getsockname()[1]}", "", "")
        sending = pool.submit(uploads.send, path)
        taken, _ = server.accept()
        received = threading.Event()
        threading.Thread(target=lambda: (drain(taken, 100_000), received.set()), daemon=True).start()
        assert received.wait(60)
        uploads.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            sending.result(60)
        taken.close()


def drain(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(count))
