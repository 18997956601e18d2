"""The OHIF viewer in a real browser opens a study that nginx serves from the tree, and shows its image."""

from __future__ import annotations

from pathlib import Path

import ohif
from datasets import of_kind
from mkdicomweb import create
from nginx_server import Nginx
from servers import stop
from static_server import Server


def test_it_shows_a_study(tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    root = tmp_path / "tree"
    assert create(root, instance.path).exit_code == 0
    ohif.configure(tmp_path, "/static-dicomweb")
    server = Server(root, tmp_path / "log", "--read-only")
    nginx = Nginx(tmp_path, root, server=server.url.removesuffix("/static-dicomweb"), viewer=str(ohif.OHIF))
    try:
        ohif.shows(nginx, instance, tmp_path)
    finally:
        nginx.stop()
        stop(server.process, server.log)
