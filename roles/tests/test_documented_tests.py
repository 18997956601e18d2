"""Tables in docs/ say which test shows what: each of these tests is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TABLES = [page for page in sorted((PROJECT / "docs").glob("*.md")) if "`test_" in page.read_text()]
DEFINED = {
    name
    for directory in ("files", "molecule", "roles")
    for path in (PROJECT / directory).rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("page", TABLES, ids=lambda page: str(page.name))
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert len(named) > 40
    assert not named - DEFINED
