"""JSON with comments, whose members know their lines."""

from __future__ import annotations

import json
import re
from typing import Any

_COMMENT_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*"|,(?=\s*[}\]])')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

Path = tuple[str | int, ...]
"""Where a member is: names of objects, and numbers in arrays."""


class SyntaxProblemError(ValueError):
    """The text is no JSON with comments; `line` counts from one."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def parse(text: str) -> tuple[Any, dict[Path, int]]:
    """Return what the text says, and the line of each member. Comments (// and /* */) and a last comma are allowed."""
    plain = _COMMENT_OR_STRING.sub(_without_comment, text.removeprefix("\ufeff"))
    plain = _LAST_COMMA.sub(lambda found: found[0] if found[0].startswith('"') else " ", plain)
    try:
        content = json.loads(plain, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise SyntaxProblemError(error.msg, error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise SyntaxProblemError(str(error), 1) from None
    return content, _lines(plain)


def _without_comment(found: re.Match[str]) -> str:
    # Lines and columns stay what they are.
    return found[0] if found[0].startswith('"') else re.sub(r"[^\n]", " ", found[0])


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _lines(plain: str) -> dict[Path, int]:
    """Walk through a text that is JSON, and note where each member's name, or each element, begins."""
    found: dict[Path, int] = {}
    path: list[str | int] = []
    is_name_next = False
    for token in _TOKEN.finditer(plain):
        word = token[0]
        line = plain.count("\n", 0, token.start()) + 1
        if word in "{[":
            _note(found, path, line)
            path.append("" if word == "{" else 0)
            is_name_next = word == "{"
        elif word in "}]":
            path.pop()
            is_name_next = False
        elif word == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else last
            is_name_next = isinstance(last, str)
        elif word == ":":
            is_name_next = False
        elif is_name_next:
            path[-1] = json.loads(word)
            if tuple(path) in found:
                raise SyntaxProblemError(f"{path[-1]} is given twice", line)
            found[tuple(path)] = line
        else:
            _note(found, path, line)
    return found


def _note(found: dict[Path, int], path: list[str | int], line: int) -> None:
    found.setdefault(tuple(path), line)
