"""What the index says when its disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from static_dicomweb.index import Index
from static_dicomweb.rows import Row


def test_a_full_disk_leaves_the_former_rows(small_disk: Path) -> None:
    index = Index(small_disk)
    former = [Row("STUDY", "1", "", "", {"00100020": {"vr": "LO", "Value": ["A"]}})]
    index.replace("1", former)
    large = {"00204000": {"vr": "LT", "Value": ["x" * 2000]}}
    with pytest.raises(OSError, match="index takes nothing"):
        index.replace("1", [Row("IMAGE", "1", "2", str(number), large) for number in range(1000)])
    assert list(index.rows("STUDY")) == former and not list(index.rows("IMAGE"))
    index.close()
