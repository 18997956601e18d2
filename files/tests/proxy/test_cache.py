"""What the cache keeps, and what it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicomweb.instances import Instance, Scope
from dimse_proxy.cache import Cache


def test_what_the_disk_does_not_take_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 60, 1_000_000, is_kept=True)
    directory = cache.new()
    (directory.path / "0.dcm").write_bytes(b"x" * 100)
    instances = [Instance(directory.path / name, "1", "2", name, "3", "4", 100, "whole") for name in ("0.dcm", "gone.dcm")]
    with pytest.raises(OSError):
        cache.keep(Scope("1"), instances)
    assert cache.find(Scope("1")) is None
    assert list((tmp_path / "incoming").iterdir()) == [directory.path]
    cache.keep(Scope("1"), instances[:1])
    found = cache.find(Scope("1"))
    assert found is not None
    assert [instance.path.read_bytes() for instance in found[1]] == [b"x" * 100]
