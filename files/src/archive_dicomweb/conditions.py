"""What of a search the database can decide, as SQL over Orthanc's index.

Orthanc has some values otherwise than the instances: in upper case, or undecoded. So a condition here may let through what doesn't
match, and never keeps back what does: the rest is decided on the attributes themselves (dicomweb.matching).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dicomweb.attributes import vrs_of
from dicomweb.keys import TIME_VRS, WITHOUT_WILDCARDS, bounds, uids
from dicomweb.levels import UNIQUE
from dicomweb.query import Matching

ALIASES = {"STUDY": "study", "SERIES": "series", "IMAGE": "image"}
"""What a level's table of resources is called by."""

# Attributes that are in dicomidentifiers, in upper case without blanks around it, and so are found by an index.
_IDENTIFIERS = {
    "STUDY": frozenset({"00100020", "00080050", "0020000D"}),
    "SERIES": frozenset({"0020000E"}),
    "IMAGE": frozenset({"00080018"}),
}
_MODALITIES = "00080061"
_MOST_PIECES = 8
# What everybody makes the same upper case of.
_PLAIN = re.compile(r"[ -~]+")


class Conditions:
    """Conditions on resources, all of which hold; `given` are their parameters."""

    def __init__(self) -> None:
        self._has_chosen = self._has_study = False
        self._tests: list[str] = []
        self.given: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """Return what stands in a statement's WHERE."""
        if self._has_study:
            # What has a study's UID is one.
            return " AND ".join(self._tests)
        # `+ 0` keeps the database from beginning with all studies, where it thinks that there are few.
        return " AND ".join([f"study.resourcetype{' + 0' if self._has_chosen else ''} = 1", *self._tests])

    def _parameter(self, value: Any) -> str:
        name = f"p{len(self.given)}"
        self.given[name] = value
        return f"%({name})s"

    def _choose(self, level: str, tag: str, listed: Sequence[str]) -> None:
        """Begin with what is found by an index, whatever the database estimates: it may know nothing of the newest million rows.

        The values are looked for first and by themselves (`OFFSET 0`), and what they are of is a list, which no join comes before.
        """
        self._has_chosen = True
        self._has_study |= tag == UNIQUE["STUDY"]
        found = f"SELECT id, taggroup, tagelement FROM dicomidentifiers WHERE value = ANY({self._parameter(list(listed))}) OFFSET 0"
        self._tests.append(
            f"{ALIASES[level]}.internalid = ANY(ARRAY(SELECT id FROM ({found}) AS found "
            f"WHERE taggroup = {int(tag[:4], 16)} AND tagelement = {int(tag[4:], 16)}))"
        )

    def add_uids(self, level: str, listed: Sequence[str]) -> None:
        """Have one of these UIDs, which are the level's own."""
        self._choose(level, UNIQUE[level], [uid.upper() for uid in listed])

    def add(self, level: str, matching: Matching, indexed: frozenset[str], *, fuzzy: bool = False) -> None:
        """Have what keys of a level ask for, as far as the index has it; raise RequestError (400) for a value that is none."""
        for tag, value in matching.items():
            if isinstance(value, str) and value.strip("* ") and not (fuzzy and vrs_of(tag) == {"PN"}):
                self._add_key(level, tag, value, indexed)

    def _add_key(self, level: str, tag: str, value: str, indexed: frozenset[str]) -> None:
        vrs = vrs_of(tag)
        if tag in _IDENTIFIERS[level] and vrs == {"UI"}:
            self._choose(level, tag, uids(tag, value))
        elif tag == _MODALITIES and level == "STUDY":
            self._add_pieces(value, "modality.value LIKE", _OF_SERIES)
        elif tag not in indexed or vrs == {"SQ"}:
            return
        elif tag in _IDENTIFIERS[level] and not re.search(r"[*?]", value) and _PLAIN.fullmatch(value):
            self._choose(level, tag, _identifiers(value))
        elif vrs <= TIME_VRS and "-" in value:
            low, high = bounds(tag, value)
            self._tests.append(
                self._of(
                    level,
                    tag,
                    f'tag.value COLLATE "C" >= {self._parameter(low)} '
                    f'AND left(tag.value, {len(high)}) COLLATE "C" <= {self._parameter(high)}',
                )
            )
        elif vrs == {"PN"}:
            # Any of its groups, in any case.
            self._add_pieces(value, "tag.value ILIKE", self._of(level, tag, "{}"))
        elif vrs <= TIME_VRS or not vrs & WITHOUT_WILDCARDS:
            self._add_pieces(value, "tag.value LIKE", self._of(level, tag, "{}"))

    def _of(self, level: str, tag: str, test: str) -> str:
        return (
            f"EXISTS (SELECT FROM maindicomtags tag WHERE tag.id = {ALIASES[level]}.internalid "
            f"AND tag.taggroup = {int(tag[:4], 16)} AND tag.tagelement = {int(tag[4:], 16)} AND {test})"
        )

    def _add_pieces(self, value: str, comparison: str, around: str) -> None:
        """Have what stands between the wildcards of a value somewhere in it."""
        pieces = [piece for part in re.split(r"[*?=^]", value.strip()) for piece in [part.strip()] if _PLAIN.fullmatch(piece)]
        patterns = ("%" + re.sub(r"([\\%_])", r"\\\1", piece) + "%" for piece in pieces)
        # A value may have thousands, each of which the database would look for in every row: the longest say most.
        longest = sorted(patterns, key=len)[-_MOST_PIECES:]
        tests = [f"{comparison} {self._parameter(pattern)}" for pattern in longest]
        if tests:
            self._tests.append(around.replace("{}", " AND ".join(tests)))


def _identifiers(value: str) -> list[str]:
    """Return what a value of plain ASCII may be in dicomidentifiers: with blanks in place of what LIKE has a meaning for."""
    return list(dict.fromkeys(text.strip().upper() for text in (value, re.sub("[%_]", " ", value))))


_OF_SERIES = (
    "EXISTS (SELECT FROM resources below JOIN maindicomtags modality ON modality.id = below.internalid AND modality.taggroup = 8 "
    "AND modality.tagelement = 96 WHERE below.parentid = study.internalid AND {})"
)
