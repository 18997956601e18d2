"""2 GB pass through nginx both ways, and nginx keeps no more of them than its buffers."""

from __future__ import annotations

import threading

import pytest
from datasets import Instance, ct_study
from hosts import Host
from web import DICOM, values

SIDE = 4096
COUNT = 64
NGINX_LIMIT_MB = 100


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """One image of 4096 by 4096 pixels, 34 MB, as the pattern of 64."""
    return ct_study(1, tmp_path_factory.mktemp("large"), rows=SIDE)


class Memory(threading.Thread):
    """Watches the most memory that nginx and the file system below its directories have, in MB."""

    def __init__(self, host: Host) -> None:
        super().__init__(daemon=True)
        self.shell, self.done, self.most = host.shell, threading.Event(), 0

    def run(self) -> None:
        command = "ps -C nginx -o rss= | awk '{sum += $1} END {print int(sum / 1024)}'; du -sm /var/lib/nginx | cut -f1"
        while not self.done.wait(0.5):
            self.most = max([self.most, *(int(number) for number in self.shell.check_output(command).split())])


def test_two_gigabytes_both_ways(host: Host, large: list[Instance]) -> None:
    web, memory = host.web, Memory(host)
    web.timeout = 600
    content = large[0].path.read_bytes()
    uid = large[0].dataset.SOPInstanceUID
    study = large[0].dataset.StudyInstanceUID
    # The same image under 64 UIDs of the same length: 2.1 GB without being held here.
    uids = [uid[:-2] + f"{number:02}" for number in range(10, 10 + COUNT)]
    memory.start()
    answer = web.stow(content.replace(uid.encode(), other.encode()) for other in uids)
    assert answer.status_code == 200
    assert len(values(answer.json(), "00081199")) == COUNT
    received = 0
    with web.request("GET", f"/studies/{study}", headers={"Accept": DICOM}, stream=True) as stream:
        assert stream.status_code == 200
        for piece in stream.iter_content(1 << 20):
            received += len(piece)
    memory.done.set()
    memory.join()
    assert host.orthanc(8042, f"/studies/{host.identifier('Study', StudyInstanceUID=study)}", method="DELETE") is not None
    assert received > COUNT * SIDE * SIDE * 2
    assert 0 < memory.most < NGINX_LIMIT_MB
