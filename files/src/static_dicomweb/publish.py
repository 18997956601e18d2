"""Documents about a whole study, of what its instances have: a version of them, which becomes the current one at once."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import brotli
import zstandard
from dicomweb.dataset import Dataset, first, write_json
from dicomweb.instances import Scope

from static_dicomweb.composition import parts
from static_dicomweb.layout import Layout, address, directories
from static_dicomweb.rows import Row, instance_row, series_row, study_row, with_series

_SHARED = re.compile(rb'<!--# include virtual="[^"]*/([0-9a-f]{32})" -->')
# Seconds since 1970, all of them long ago.
_FIRST_TIME, _TIMES = 1_000_000_000, 500_000_000
_INSTANCE_NUMBER, _SERIES_NUMBER = "00200013", "00200011"


@dataclass
class Series:
    """A series as its documents have it: its instances in their order, and the attributes of the first one."""

    uid: str
    attributes: Dataset
    instances: list[Row]

    @property
    def order(self) -> tuple[float, str]:
        """Return where it stands in its study."""
        return _number(self.attributes, _SERIES_NUMBER), self.uid


def _number(attributes: Dataset, tag: str) -> float:
    try:
        return float(first(attributes, tag))
    except (TypeError, ValueError):
        return float("inf")


def arranged(study: str, found: Iterable[tuple[str, str, Dataset]], base: str) -> list[Series]:
    """Return a study's series, of its instances: their series, UIDs and attributes; `base` is the address of the tree."""
    by_series: dict[str, list[Row]] = {}
    firsts: dict[str, tuple[tuple[float, str], Dataset]] = {}
    for series, uid, attributes in found:
        by_series.setdefault(series, []).append(instance_row(study, series, uid, attributes, base))
        place = (_number(attributes, _INSTANCE_NUMBER), uid)
        if series not in firsts or place < firsts[series][0]:
            firsts[series] = (place, attributes)
    for rows in by_series.values():
        rows.sort(key=lambda row: (_number(row.attributes, _INSTANCE_NUMBER), row.uid))
    return sorted((Series(uid, firsts[uid][1], rows) for uid, rows in by_series.items()), key=lambda each: each.order)


def rows_of(study: str, series: list[Series], base: str) -> list[Row]:
    """Return what searches find of a study: itself, its series, and their instances in order."""
    instances = [row for one in series for row in one.instances]
    series_rows = [series_row(study, one.uid, one.attributes, len(one.instances), base) for one in series]
    found = study_row(study, [one.attributes for one in series], (row.attributes for row in instances), base)
    return [found, *series_rows, *instances]


class _Compressed:
    """A document that is written in each encoding at once."""

    def __init__(self, path: Path, digest: Any) -> None:
        self._digest = digest
        self._files: list[BinaryIO] = [path.with_name(f"{path.name}.{end}").open("wb") for end in ("gz", "br", "zst")]
        # No name and no time in it: the same document has the same bytes.
        self._gzip = gzip.GzipFile("", "wb", 9, self._files[0], 0)
        # A window of 16 MB: instances of a series have most in common, and are some KB long.
        self._brotli = brotli.Compressor(quality=5, lgwin=24)
        self._zstd = zstandard.ZstdCompressor(level=9).compressobj()

    def write(self, content: bytes) -> None:
        self._digest.update(content)
        self._gzip.write(content)
        self._files[1].write(self._brotli.process(content))
        self._files[2].write(self._zstd.compress(content))

    def close(self) -> None:
        self._gzip.close()
        self._files[1].write(self._brotli.finish())
        self._files[2].write(self._zstd.flush())
        for file in self._files:
            file.close()


class Publisher:
    """Publishes studies."""

    def __init__(self, layout: Layout, base: str) -> None:
        """Publish for readers who find the tree at the address `base`."""
        self._layout = layout
        self._base = base

    def publish(self, study: str, without: Scope | None = None) -> list[Row]:
        """Have the documents of a study say what its instances are now; return its rows for the index, none where it has none.

        A series or an instance that is about to be removed isn't among them. The study is locked by who calls. Raises OSError where
        the disk doesn't take them: then the former ones stay.
        """
        metadata = Metadata(self._layout.shared(study))
        series = self._read(metadata, study, without)
        if not series:
            self._layout.withdraw(study)
            return []
        new = self._layout.new()
        new.mkdir()
        try:
            digest, rows = self._write(new, metadata, study, series)
            _date(new, digest)
            self._layout.sync()
            place = self._layout.versions / study / digest
            place.parent.mkdir(exist_ok=True)
            if not place.is_dir():
                new.rename(place)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._switch(study, digest)
        return rows

    def _switch(self, study: str, digest: str) -> None:
        link = self._layout.studies / study
        target = f"../versions/{study}/{digest}"
        if not link.is_symlink() or os.readlink(link) != target:
            new = self._layout.new()
            new.symlink_to(target)
            new.replace(link)
            self._layout.sync()
        for former in (self._layout.versions / study).iterdir():
            if former.name != digest:
                self._layout.remove(former)

    def _read(self, metadata: Metadata, study: str, without: Scope | None) -> list[Series]:
        found = (
            (directory.name, path.name, metadata.attributes(path))
            for directory in self._layout.series(study)
            for path in directories(directory)
            if not without or not without.covers(Scope(study, directory.name, path.name))
        )
        return arranged(study, found, self._base)

    def _write(self, new: Path, metadata: Metadata, study: str, series: list[Series]) -> tuple[str, list[Row]]:
        """Write all documents; return a digest of them, and the rows for the index."""
        digest = hashlib.sha256()
        rows = rows_of(study, series, self._base)
        for one in series:
            directory = new / "series" / one.uid
            directory.mkdir(parents=True)
            self._write_about(directory, metadata, study, one.instances, digest)
            _write_rows(directory / "instances.json", [row.attributes for row in one.instances], digest)
        of_series, instances = ([row for row in rows if row.level == level] for level in ("SERIES", "IMAGE"))
        if len(series) == 1:
            for path in (new / "series" / series[0].uid).iterdir():
                if not path.name.startswith("instances.json"):
                    (new / path.name).hardlink_to(path)
        else:
            self._write_about(new, metadata, study, instances, digest)
        _write_rows(new / "instances.json", with_series(instances, of_series), digest)
        _write_rows(new / "series.json", [row.attributes for row in of_series], digest)
        return digest.hexdigest()[:32], rows

    def _write_about(self, directory: Path, metadata: Metadata, study: str, rows: list[Row], digest: Any) -> None:
        """Write what a study and a series have alike."""
        places = [self._layout.instance(study, row.series, row.uid) for row in rows]
        with contextlib.closing(_Compressed(directory / "metadata", digest)) as document:
            before = b"["
            for place in places:
                document.write(before + metadata.text(place)[1:-1])
                before = b","
            document.write(b"]")
        _write_files(directory / "dicom.ssi", rows)
        _link_thumbnail(directory, places)


class Metadata:
    """What the instances of a study have as metadata; what is shared is read once."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._texts: dict[bytes, bytes] = {}
        self._attributes: dict[bytes, Dataset] = {}

    def text(self, directory: Path) -> bytes:
        """Return an instance's document."""
        pieces = _SHARED.split((directory / "metadata.ssi").read_bytes())
        return b"".join(self._text(piece) if number % 2 else piece for number, piece in enumerate(pieces))

    def attributes(self, directory: Path) -> Dataset:
        """Return an instance's attributes."""
        pieces = _SHARED.split((directory / "metadata.ssi").read_bytes())
        # Its own stand before what is shared.
        own: Dataset = json.loads(pieces[0].removeprefix(b"[").removesuffix(b"}]").removesuffix(b",") + b"}")
        for name in pieces[1::2]:
            own |= self._parsed(name)
        return own

    def _text(self, name: bytes) -> bytes:
        if name not in self._texts:
            self._texts[name] = (self._shared / name.decode()).read_bytes()
        return self._texts[name]

    def _parsed(self, name: bytes) -> Dataset:
        if name not in self._attributes:
            self._attributes[name] = json.loads(b"{" + self._text(name) + b"}")
        return self._attributes[name]


def _date(directory: Path, digest: str) -> None:
    """Have the documents' times follow their content: validators are made of them, and two versions may come in a second."""
    time = _FIRST_TIME + int(digest[:8], 16) % _TIMES
    for parent, _, names in os.walk(directory):
        for name in names:
            # A thumbnail is the instance's own file.
            if name != "thumbnail.jpg":
                os.utime(os.path.join(parent, name), (time, time))


def _write_rows(path: Path, rows: list[Dataset], digest: Any) -> None:
    with contextlib.closing(_Compressed(path, digest)) as document:
        document.write(write_json(rows).encode("utf-8", "replace"))


def _write_files(path: Path, rows: list[Row]) -> None:
    """Write the composition of all DICOM files, parts of one body (PS3.18 8.6.1)."""
    places = (address(row.study, row.series, row.uid, "dicom") for row in rows)
    path.write_bytes(parts(("application/dicom", place) for place in places))


def _link_thumbnail(directory: Path, places: list[Path]) -> None:
    """Have the picture of the instance in the middle, else of the next one that has any."""
    middle = len(places) // 2
    for place in (*places[middle:], *reversed(places[:middle])):
        with contextlib.suppress(FileNotFoundError):
            (directory / "thumbnail.jpg").hardlink_to(place / "thumbnail.jpg")
            return
