"""Files are whole or not there, on a disk that is full too."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_monitor.tree import NewFile, Tree


def written(tree: Tree, content: bytes) -> NewFile:
    file = tree.new_file()
    file.write(content)
    return file


def test_a_full_disk_leaves_nothing_half_written(small_disk: Path) -> None:
    tree = Tree(small_disk)
    fits = written(tree, b"x" * 1000)
    large = tree.new_file()
    with pytest.raises(OSError, match="No space left"):
        large.write(b"x" * 1_000_000)
    large.drop()
    tree.put(fits, tree.path("P", "1", "2", "3"))
    assert [path.relative_to(small_disk).parts for path in small_disk.rglob("*") if path.is_file()] == [("P", "1", "2", "3.dcm")]


def test_what_a_crash_left_is_not_in_the_tree(tmp_path: Path) -> None:
    written(Tree(tmp_path), b"half")
    assert not [path for path in Tree(tmp_path).root.rglob("*") if path.is_file()]


def test_the_former_versions_are_all_kept(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    target = tree.path("P", "1", "2", "3")
    replaced = [tree.put(written(tree, content), target) for content in (b"one", b"one", b"two", b"three")]
    assert replaced == [False, False, True, True] and target.read_bytes() == b"three"
    assert sorted(path.read_bytes() for path in (tmp_path / ".replaced").rglob("*") if path.is_file()) == [b"one", b"two"]
    assert not list((tmp_path / ".incoming").iterdir())
