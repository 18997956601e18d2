"""Instances on the disk, some of which are still coming."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from dicomweb.errors import LostError

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Scope:
    """What is asked for: a study, one of its series, or one instance."""

    study: str
    series: str = ""
    instance: str = ""

    @property
    def uids(self) -> tuple[str, ...]:
        """Return the UIDs that name it, the study's first."""
        return tuple(filter(None, (self.study, self.series, self.instance)))

    def covers(self, other: Scope) -> bool:
        """Return whether everything of `other` is part of this."""
        return self.study == other.study and self.series in ("", other.series) and self.instance in ("", other.instance)

    @property
    def level(self) -> Literal["STUDY", "SERIES", "IMAGE"]:
        """Return the Query/Retrieve Level (PS3.4 C.3)."""
        return "IMAGE" if self.instance else "SERIES" if self.series else "STUDY"

    def address(self, base: str) -> str:
        """Return where it is retrieved, below `base` (PS3.18 10.3). What an archive has as a UID may be any text."""
        names = zip(("studies", "series", "instances"), (self.study, self.series, self.instance), strict=True)
        return base + "/".join(f"{name}/{quote(uid, safe='')}" for name, uid in names if uid)

    def __str__(self) -> str:
        return "/".join(self.uids)


@dataclass
class Instance:
    """A DICOM file, and what is known of it without decoding it. `size` bytes of it are there."""

    path: Path
    study: str
    series: str
    uid: str
    sop_class: str
    syntax: str
    size: int
    state: Literal["coming", "whole", "broken"] = "coming"

    @property
    def scope(self) -> Scope:
        """Return what it is."""
        return Scope(self.study, self.series, self.uid)


class CutError(Exception):
    """What is being sent can't be completed."""


class Source:
    """The instances of a scope, in the order in which they come."""

    def __init__(self, scope: Scope, instances: list[Instance] | None = None) -> None:
        self.scope = scope
        self.instances = instances or []
        self.is_done = instances is not None
        self.error: Exception | None = None
        self.has_unread = False
        """Whether an answer lacks what stands in an instance that couldn't be read, maybe for now."""
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Wake who waits. Called in the event loop."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def each(self, scope: Scope) -> AsyncGenerator[Instance]:
        """Yield the instances of a part of it as they begin to come; raise what made it end too soon."""
        seen = 0
        while True:
            while seen < len(self.instances):
                instance = self.instances[seen]
                seen += 1
                if scope.covers(instance.scope):
                    yield instance
                    if scope.instance:
                        return
            if self.is_done:
                if self.error:
                    raise self.error
                return
            await self._changed.wait()

    async def content(self, instance: Instance) -> AsyncGenerator[bytes]:
        """Yield an instance's file, a piece at a time, as far as it has come; raise CutError where it breaks off."""
        at = 0
        try:
            handle = os.open(instance.path, os.O_RDONLY)
        except FileNotFoundError:
            raise LostError from None
        try:
            while True:
                changed = self._changed
                if at < instance.size:
                    piece = os.pread(handle, min(instance.size - at, _PIECE_BYTES), at)
                    if not piece:
                        raise CutError(f"the file of instance {instance.uid} ends after {at} of {instance.size} bytes")
                    at += len(piece)
                    yield piece
                elif instance.state == "whole":
                    return
                elif instance.state == "broken" or self.is_done:
                    raise CutError(f"instance {instance.uid} broke off") from self.error
                else:
                    await changed.wait()
        finally:
            os.close(handle)

    async def whole(self, instance: Instance) -> None:
        """Wait until all of an instance is there; raise CutError where it breaks off."""
        while instance.state != "whole":
            if instance.state == "broken" or self.is_done:
                raise CutError(f"instance {instance.uid} broke off") from self.error
            await self._changed.wait()

    def stays(self, instance: Instance) -> bool:
        """Return whether a file that is whole is there until the scope is left, and not only until the next one is asked for."""
        return self.is_done
