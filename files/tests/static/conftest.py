"""A tree with objects of many kinds, and nginx before it, for all tests of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import KINDS, Instance, of_kind
from mkdicomweb import create
from nginx_server import Nginx


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    """Objects of each kind, each a study of its own."""
    directory = tmp_path_factory.mktemp("made")
    return {kind: of_kind(kind, directory) for kind in KINDS}


@pytest.fixture(scope="session")
def tree(made: dict[str, Instance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("static") / "tree"
    done = create(root, *(instance.path for instance in made.values()))
    assert done.exit_code == 0, done.output
    return root


@pytest.fixture(scope="session")
def nginx(tree: Path) -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory() as directory:
        server = Nginx(Path(directory), tree)
        yield server
        server.stop()
