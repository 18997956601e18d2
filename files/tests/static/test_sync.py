"""What is brought into S3, over moto's server: the addresses that nginx serves, whoever brings it and whatever fails meanwhile."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from click.testing import Result
from datasets import ct_study, of_kind, read, same
from mkdicomweb import run
from moto.server import ThreadedMotoServer
from servers import free_port, with_sources


class S3:
    """A server that speaks S3, with one bucket."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.start()
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")

    def start(self) -> None:
        self.server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.server.start()

    def make_bucket(self) -> None:
        self.client.create_bucket(Bucket="images")

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return all objects by their keys: content, unpacked, and headers."""
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket="images"):
            for each in page.get("Contents", []):
                answer = self.client.get_object(Bucket="images", Key=each["Key"])
                body = answer["Body"].read()
                found[each["Key"]] = {
                    "content": gzip.decompress(body) if answer.get("ContentEncoding") == "gzip" else body,
                    "type": answer["ContentType"],
                    "cache": answer["CacheControl"],
                }
        return found

    def json(self, key: str) -> list[dict[str, Any]]:
        return list(json.loads(self.objects()[f"site/{key}"]["content"]))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = S3()
    # What moto has is the process's, not the server's.
    requests.post(f"{made.endpoint}/moto-api/reset", timeout=30).raise_for_status()
    made.make_bucket()
    yield made
    made.server.stop()


def mkdicomweb(s3: S3, root: Path, *arguments: str | Path) -> Result:
    return run(root, "--s3", "s3://images/site", "--s3-endpoint", s3.endpoint, "--s3-region", "us-east-1", *arguments)


def uids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["00080018"]["Value"][0] for row in rows]


def test_what_nginx_serves_at_an_address_is_the_object_of_that_key(s3: S3, tmp_path: Path) -> None:
    study = ct_study(3, tmp_path, rows=32)
    others = [of_kind(kind, tmp_path) for kind in ("mr-rle", "ecg", "rt-dose-multi-frame")]
    done = mkdicomweb(s3, tmp_path / "tree", "create", *(instance.path for instance in [*study, *others]))
    assert done.exit_code == 0, done.output
    objects = s3.objects()
    assert len(s3.json("studies")) == 4
    for instance in [*study, *others]:
        key = f"site{instance.url}"
        assert objects[key]["content"] == instance.path.read_bytes()
        assert objects[key]["type"] == "application/dicom" and "max-age=86400" in objects[key]["cache"]
        [model] = json.loads(objects[f"{key}/metadata"]["content"])
        for tag, attribute in model.items():
            if "BulkDataURI" in attribute and tag != "7FE00010":
                path = attribute["BulkDataURI"].partition("/bulkdata/")[2]
                assert objects[f"{key}/bulkdata/{path}"]["content"] == instance.dataset[tag].value
    dose = others[2].dataset
    size = dose.Rows * dose.Columns * dose.BitsAllocated // 8
    assert objects[f"site{others[2].url}/frames/2"]["content"] == dose.PixelData[size : 2 * size]
    assert objects[f"site{others[0].url}/frames/1"]["type"] == "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"
    uid = study[0].dataset.StudyInstanceUID
    assert uids(s3.json(f"studies/{uid}/instances")) == [instance.dataset.SOPInstanceUID for instance in study]
    assert objects[f"site/studies/{uid}/metadata"]["cache"] == "no-cache"
    assert objects[f"site/studies/{uid}/thumbnail"]["type"] == "image/jpeg"
    # Again: nothing is written once more.
    before = {each["Key"]: each["LastModified"] for each in s3.client.list_objects_v2(Bucket="images")["Contents"]}
    time.sleep(1.1)
    assert mkdicomweb(s3, tmp_path / "tree", "create", study[0].path).exit_code == 0
    assert before == {each["Key"]: each["LastModified"] for each in s3.client.list_objects_v2(Bucket="images")["Contents"]}

    assert mkdicomweb(s3, tmp_path / "tree", "delete", uid).exit_code == 0
    assert not [key for key in s3.objects() if uid in key]
    assert len(s3.json("studies")) == 3


def test_several_writers_come_to_the_same(s3: S3, tmp_path: Path) -> None:
    study = ct_study(12, tmp_path, rows=32)
    command = [sys.executable, "-m", "static_dicomweb.make", "--s3", "s3://images/site"]
    command += ["--s3-endpoint", s3.endpoint, "--s3-region", "us-east-1"]
    parts = [study[:5], study[4:9], study[8:]]
    environment = with_sources()
    running = [
        subprocess.Popen(
            [*command, "--root", str(tmp_path / f"tree{number}"), "create", *(str(each.path) for each in part)], env=environment
        )
        for number, part in enumerate(parts)
    ]
    assert [each.wait(120) for each in running] == [0, 0, 0]
    uid = study[0].dataset.StudyInstanceUID
    everything = [instance.dataset.SOPInstanceUID for instance in study]
    assert uids(s3.json(f"studies/{uid}/metadata")) == uids(s3.json(f"studies/{uid}/instances")) == everything
    [row] = s3.json("studies")
    assert row["00201208"]["Value"] == [12]
    # One of them removes what it has: the others' stays.
    assert mkdicomweb(s3, tmp_path / "tree1", "delete", uid).exit_code == 0
    assert uids(s3.json(f"studies/{uid}/instances")) == everything[:4] + everything[9:]


def test_what_came_again_under_its_uids_is_there_as_it_is_now(s3: S3, tmp_path: Path) -> None:
    former, other = of_kind("rt-dose-multi-frame", tmp_path), of_kind("ct", tmp_path)
    root = tmp_path / "tree"
    assert mkdicomweb(s3, root, "create", former.path).exit_code == 0
    dataset = other.dataset
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, getattr(former.dataset, keyword))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(other.path)
    # The bucket isn't looked at meanwhile.
    assert run(root, "delete", dataset.StudyInstanceUID).exit_code == 0
    assert run(root, "create", other.path).exit_code == 0
    assert mkdicomweb(s3, root, "sync").exit_code == 0
    key, objects = f"site{former.url}", s3.objects()
    assert objects[key]["content"] == other.path.read_bytes()
    assert objects[f"{key}/frames/1"]["content"] == dataset.PixelData
    assert f"{key}/frames/2" not in objects


def test_it_is_tried_again_until_it_is_there(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, later = of_kind("ct", tmp_path), of_kind("mr", tmp_path)
    root = tmp_path / "tree"
    s3.server.stop()
    monkeypatch.setattr("static_dicomweb.make._WAITS", ())
    done = mkdicomweb(s3, root, "create", instance.path)
    assert done.exit_code == 1 and "is not in s3://images/site" in done.output and "call sync" in done.output
    # Here it is whole all the same.
    assert (root / "studies" / instance.dataset.StudyInstanceUID / "metadata.gz").exists()
    command = [sys.executable, "-m", "static_dicomweb.make", "--root", str(root), "--s3", "s3://images/site"]
    command += ["--s3-endpoint", s3.endpoint, "--s3-region", "us-east-1", "sync", "--follow"]
    with (tmp_path / "log").open("w") as log:
        follower = subprocess.Popen(command, env=with_sources(), stderr=log)
    try:
        deadline = time.monotonic() + 60
        while "tried again" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        s3.start()
        s3.make_bucket()
        assert run(root, "create", later.path).exit_code == 0
        while f"site{later.url}" not in s3.objects() and time.monotonic() < deadline:
            time.sleep(0.2)
        while len(s3.objects().get("site/studies", {"content": b""})["content"]) < 10 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert same(read(s3.objects()[f"site{instance.url}"]["content"]), instance.dataset)
    finally:
        follower.terminate()
        follower.wait(30)


def test_an_address_that_is_no_bucket_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "tree", "--s3", "https://images/site", "sync")
    assert done.exit_code == 2 and "give s3://BUCKET/PREFIX" in done.output
    assert "There is no bucket" in run(tmp_path / "tree", "sync").output
