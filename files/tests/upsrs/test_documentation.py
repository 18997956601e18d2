"""docs/worklist.md names every Warning of the service."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs/worklist.md").read_text()
TABLE = PAGE[PAGE.index("## Every status") :]


def test_every_warning_stands_in_the_table() -> None:
    source = "".join((PROJECT / "files/src/upsrs" / name).read_text() for name in ("states.py", "worklist.py"))
    said = set(re.findall(r'"((?:The|There|Deletion)[^"]*(?:\.|requested))"', source)) - {"The workitem is SCHEDULED: update it"}
    warnings = {
        text
        for text in said
        if re.match(r"The (Workitem was|target|submitted|Transaction UID is|UPS is|performer)|There are|Deletion", text)
    }
    assert len(warnings) >= 11
    for text in warnings:
        assert text.replace("{}", "COMPLETED").replace("{remaining}", "<remaining>") in TABLE, text
