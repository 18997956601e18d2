"""The tree in S3, or what speaks it: what nginx serves at an address is the object of that key.

Instances never change. Documents about a study are made of what all writers have put there: each reads the metadata that is
there, adds its own, and writes it back only if nobody else has meanwhile. So several writers come to the same in any order.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from dicomweb.dataset import Dataset, first, write_json
from dicomweb.negotiation import DICOM, DICOM_JSON
from dicomweb.syntaxes import NATIVE, frame_type
from dimse.part10 import EXPLICIT

from static_dicomweb.archive import stored_syntax
from static_dicomweb.composition import composed
from static_dicomweb.layout import Layout, directories
from static_dicomweb.publish import Metadata, Series, arranged, rows_of
from static_dicomweb.rows import with_series
from static_dicomweb.store import dicom
from static_dicomweb.sync import UnreachableError

_LOG = logging.getLogger("static_dicomweb")
_AT_A_TIME = 16
_SERIES, _UID, _STUDY = "0020000E", "00080018", "0020000D"
# An instance may be corrected under its UID.
_FOR_A_DAY, _ASK_AGAIN = "public, max-age=86400", "no-cache"
# S3 says so where another one was faster; 409 while that one is still at it.
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_ABSENT = frozenset({"NoSuchKey", "404"})

Change = Callable[[list[Dataset]], list[Dataset]]


@dataclass(frozen=True)
class _Document:
    """Datasets of a document, and the ETag of it, none where it isn't there."""

    datasets: list[Dataset]
    etag: str | None


class Bucket:
    """A bucket, or a part of one."""

    def __init__(self, address: str, endpoint: str | None, region: str | None, base: str) -> None:
        """`address` is s3://BUCKET/PREFIX, `base` the tree's; credentials are looked for as AWS's tools do. Raises ValueError."""
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"{address!r} is no bucket: give s3://BUCKET/PREFIX")
        self.address = address
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".removeprefix("/")
        self._base = base
        settings = Config(max_pool_connections=_AT_A_TIME, retries={"mode": "standard", "max_attempts": 3})
        try:
            self._client = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=settings)
        except (BotoCoreError, ValueError) as error:
            raise ValueError(f"{address}: {error}") from None

    def put_instances(self, layout: Layout, study: str, instances: Iterable[tuple[str, str]]) -> None:
        """Write instances of a study, given by series and UID; raise UnreachableError where not all of them are there."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            written = [pool.submit(self._put_instance, layout, study, *each) for each in instances]
            try:
                for each in written:
                    each.result()
            except (BotoCoreError, ClientError) as error:
                for other in written:
                    other.cancel()
                raise UnreachableError(str(error)) from None

    def _put_instance(self, layout: Layout, study: str, series: str, uid: str) -> None:
        directory = layout.instance(study, series, uid)
        key = f"studies/{study}/series/{series}/instances/{uid}"
        syntax = stored_syntax(directory)
        of_frames = frame_type(EXPLICIT if syntax in NATIVE else syntax)
        self._put(key, b"".join(dicom(directory)), DICOM, _FOR_A_DAY)
        document = Metadata(layout.shared(study)).text(directory)
        self._put(f"{key}/metadata", _compressed(document), DICOM_JSON, _FOR_A_DAY, encoding="gzip")
        for path in sorted(directory.iterdir()):
            kind, _, rest = path.name.partition("-")
            if path.name == "thumbnail.jpg":
                self._put(f"{key}/thumbnail", path.read_bytes(), "image/jpeg", _FOR_A_DAY)
            elif kind == "frame" and path.suffix != ".ssi":
                self._put(f"{key}/frames/{rest.partition('.')[0]}", path.read_bytes(), of_frames, _FOR_A_DAY)
            elif kind == "bulkdata" and path.suffix != ".ssi":
                self._put(f"{key}/bulkdata/{rest}", path.read_bytes(), "application/octet-stream", _FOR_A_DAY)
            elif kind == "bulkdata" and not rest.endswith(".parts.ssi"):
                self._put(
                    f"{key}/bulkdata/{path.stem[9:]}", b"".join(composed(path, directory)), "application/octet-stream", _FOR_A_DAY
                )

    def remove_instances(self, study: str, instances: Iterable[tuple[str, str]]) -> None:
        """Remove what `put_instances` wrote; raise UnreachableError where it isn't all gone."""
        try:
            for series, uid in instances:
                key = f"studies/{study}/series/{series}/instances/{uid}"
                for found in [key, *self._keys(f"{key}/")]:
                    self._client.delete_object(Bucket=self._bucket, Key=self._prefix + found)
        except (BotoCoreError, ClientError) as error:
            raise UnreachableError(str(error)) from None

    def put_study(self, layout: Layout, study: str, gone: set[str]) -> None:
        """Have the documents about a study tell of what the tree has of it, too, and no longer of the instances `gone`, by UID.

        Raises UnreachableError where they don't.
        """
        metadata = Metadata(layout.shared(study))
        own = {path.name: metadata.attributes(path) for series in layout.series(study) for path in directories(series)}

        def with_own(there: list[Dataset]) -> list[Dataset]:
            merged = {str(first(dataset, _UID)): dataset for dataset in there} | own
            return [dataset for uid, dataset in merged.items() if uid not in gone]

        try:
            while True:
                datasets, etag = self._change(f"studies/{study}/metadata", lambda there: self._ordered(study, with_own(there)))
                series = self._arranged(study, datasets)
                self._put_about(layout, study, datasets, series)
                # Where another writer has been there meanwhile, one of the two finds it out.
                if self._document(f"studies/{study}/metadata").etag == etag:
                    return
        except (BotoCoreError, ClientError) as error:
            raise UnreachableError(str(error)) from None

    def _arranged(self, study: str, datasets: list[Dataset]) -> list[Series]:
        return arranged(study, ((str(first(each, _SERIES)), str(first(each, _UID)), each) for each in datasets), self._base)

    def _ordered(self, study: str, datasets: list[Dataset]) -> list[Dataset]:
        by_uid = {str(first(dataset, _UID)): dataset for dataset in datasets}
        return [by_uid[row.uid] for series in self._arranged(study, datasets) for row in series.instances]

    def _put_about(self, layout: Layout, study: str, datasets: list[Dataset], series: list[Series]) -> None:
        """Write the documents that follow from a study's metadata, and what searches for studies find."""
        key = f"studies/{study}"
        if not series:
            for found in [*self._keys(f"{key}/series"), f"{key}/instances", f"{key}/thumbnail", f"{key}/series"]:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + found)
            self._change("studies", lambda there: [row for row in there if first(row, _STUDY) != study])
            return
        study_row, *below = rows_of(study, series, self._base)
        of_series, instances = ([row for row in below if row.level == level] for level in ("SERIES", "IMAGE"))
        self._put_document(f"{key}/series", [row.attributes for row in of_series])
        self._put_document(f"{key}/instances", with_series(instances, of_series))
        for one in series:
            mine = [dataset for dataset in datasets if first(dataset, _SERIES) == one.uid]
            self._put_document(f"{key}/series/{one.uid}/metadata", mine)
            self._put_document(f"{key}/series/{one.uid}/instances", [row.attributes for row in one.instances])
        version = layout.studies / study
        for name, path in chain([(key, version)], ((f"{key}/series/{one.uid}", version / "series" / one.uid) for one in series)):
            if (path / "thumbnail.jpg").exists():
                self._put(f"{name}/thumbnail", (path / "thumbnail.jpg").read_bytes(), "image/jpeg", _ASK_AGAIN)

        def with_this(there: list[Dataset]) -> list[Dataset]:
            others = [row for row in there if first(row, _STUDY) != study]
            return sorted([*others, study_row.attributes], key=lambda row: str(first(row, _STUDY)))

        self._change("studies", with_this)

    def _change(self, key: str, change: Change) -> tuple[list[Dataset], str | None]:
        """Change a document, however many others do so, too; return what it is then."""
        while True:
            there = self._document(key)
            wanted = change(there.datasets)
            if wanted == there.datasets and there.etag:
                return wanted, there.etag
            if not wanted and not there.etag:
                return [], None
            condition = {"IfMatch": there.etag} if there.etag else {"IfNoneMatch": "*"}
            try:
                if not wanted:
                    self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, **condition)
                    return [], None
                return wanted, self._put_document(key, wanted, **condition)
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise

    def _document(self, key: str) -> _Document:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return _Document([], None)
            raise
        return _Document(json.loads(gzip.decompress(answer["Body"].read())), answer["ETag"])

    def _put_document(self, key: str, datasets: list[Dataset], **condition: str) -> str:
        body = _compressed(write_json(datasets).encode("utf-8", "replace"))
        return self._put(key, body, DICOM_JSON, _ASK_AGAIN, encoding="gzip", **condition)

    def _put(self, key: str, body: bytes, kind: str, cache: str, *, encoding: str = "", **condition: str) -> str:
        headers: dict[str, Any] = {"ContentType": kind, "CacheControl": cache, **condition}
        if encoding:
            headers["ContentEncoding"] = encoding
        answer = self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body, **headers)
        return str(answer["ETag"])

    def _keys(self, beginning: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + beginning)
        return [found["Key"][len(self._prefix) :] for page in pages for found in page.get("Contents", [])]


def _compressed(content: bytes) -> bytes:
    # No time in it: the same document has the same bytes.
    return gzip.compress(content, 9, mtime=0)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
