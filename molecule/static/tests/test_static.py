"""Static DICOMweb as it is installed: what the archive gets is in it, and nginx alone serves it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from datasets import KINDS, Instance, ct_study, of_kind, read, same
from dicomweb_client.api import DICOMwebClient
from dimse_client import Archive, Modality
from free_space import nearly_full
from hosts import CONTROL_NODE, SSH, Host, not_refused, play
from moto.server import ThreadedMotoServer
from pipeline_services import wait_for
from web import DICOM, Web, parts

STATIC = "~/static-dicomweb"
TREE = "/var/lib/static-dicomweb"
S3_PORT = 8124


def held(web: Web, study: str) -> list[dict[str, Any]]:
    answer = web.get(f"{STATIC}/studies/{study}/metadata")
    return list(answer.json()) if answer.ok else []


def fed(host: Host, instances: list[Instance]) -> Web:
    """Send instances to the archive by DIMSE, and wait until the tree has them."""
    modality = Modality(host.address, 4242, "ORTHANC")
    by_study: dict[str, list[Instance]] = {}
    for instance in instances:
        by_study.setdefault(instance.dataset.StudyInstanceUID, []).append(instance)
    for group in by_study.values():
        modality.send([instance.dataset for instance in group])
    web = host.web
    wait_for(lambda: all(len(held(web, study)) >= len(group) for study, group in by_study.items()), 180)
    return web


def stored(host: Host, instance: Instance) -> bytes:
    """Return the file as the archive has it."""
    ((_, content),) = parts(host.web.get(instance.url, DICOM))
    return content


@pytest.fixture(scope="module")
def kinds(host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Instance]:
    """An instance of each kind, each a study of its own, that the archive got by DIMSE and the tree has."""
    directory = tmp_path_factory.mktemp("kinds")
    sent = {kind: of_kind(kind, directory) for kind in KINDS}
    fed(host, list(sent.values()))
    return sent


def test_every_kind_that_the_archive_gets_is_in_the_tree(host: Host, kinds: dict[str, Instance]) -> None:
    web = host.web
    for instance in kinds.values():
        assert web.get(f"{STATIC}{instance.url}", "application/dicom").content == stored(host, instance)
        [(kind, content)] = parts(web.get(f"{STATIC}{instance.url.partition('/series')[0]}", DICOM))
        assert kind == "application/dicom" and same(read(content), instance.dataset)


# Addresses of retrieval, where it is kept, and how the lossy file came about, are each server's own.
_OWN = {"00081190", "00080056", "00083002"}
# docs/static.md says why.
_KNOWN_DIFFERENCES = {"address of bulk data", "number as text", "character set", "padding"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "jpeg-extended"])
def test_metadata_beside_orthancs(host: Host, kinds: dict[str, Instance], kind: str) -> None:
    instance, web = kinds[kind], host.web
    [mine] = web.get(f"{STATIC}{instance.url}/metadata").json()
    [theirs] = web.get(f"{instance.url}/metadata").json()
    assert differences(mine, theirs) <= _KNOWN_DIFFERENCES


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> set[str]:
    """Return in what ways two models differ."""
    found: set[str] = set()
    for tag in (mine.keys() | theirs.keys()) - _OWN:
        one, other = mine.get(tag), theirs.get(tag)
        if one != other:
            found |= _difference(tag, one, other)
    return found


def _difference(tag: str, one: dict[str, Any] | None, other: dict[str, Any] | None) -> set[str]:
    if tag == "00080005":
        return {"character set"}
    if tag == "FFFCFFFC":
        return {"padding"}
    if one is None or other is None:
        return {f"{tag} only {'here' if one else 'there'}: {str(one or other)[:80]}"}
    if {"BulkDataURI", "InlineBinary"} & (one.keys() | other.keys()):
        return {"address of bulk data"}
    values, others = one.get("Value", []), other.get("Value", [])
    if one["vr"] == other["vr"] == "SQ" and len(values) == len(others):
        return set().union(*(differences(a, b) for a, b in zip(values, others, strict=True)))
    try:
        if [float(value) for value in values] == pytest.approx([float(value) for value in others]):
            return {"number as text"}
    except (TypeError, ValueError):
        pass
    return {f"{tag}: {str(one)[:80]} and {str(other)[:80]}"}


def test_frames_beside_orthancs(host: Host, kinds: dict[str, Instance]) -> None:
    web = host.web
    for kind in ("ct", "mr-rle", "rt-dose-multi-frame", "sc-rle-multi-frame", "nm-jpeg-2000"):
        instance = kinds[kind]
        accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
        for number in range(1, int(instance.dataset.get("NumberOfFrames") or 1) + 1):
            [(_, mine)] = parts(web.get(f"{STATIC}{instance.url}/frames/{number}", accept))
            [(_, theirs)] = parts(web.get(f"{instance.url}/frames/{number}", accept))
            assert mine == theirs


def test_what_comes_late_is_added_and_a_reader_sees_one_version_or_the_next(host: Host, tmp_path: Path) -> None:
    study = ct_study(8, tmp_path, rows=64)
    web = fed(host, study[:5])
    uid = study[0].dataset.StudyInstanceUID
    etag = web.get(f"{STATIC}/studies/{uid}/metadata").headers["ETag"]
    Modality(host.address, 4242, "ORTHANC").send([instance.dataset for instance in study[5:]])
    seen = set()
    deadline = time.monotonic() + 120
    while 8 not in seen and time.monotonic() < deadline:
        seen.add(len(held(web, uid)))
    # Never none and never fewer; what pauses for longer than the archive's stable age comes in two steps.
    assert 8 in seen and min(seen) >= 5
    assert web.get(f"{STATIC}/studies/{uid}/metadata").headers["ETag"] != etag


def test_nginx_serves_it_while_everything_else_is_down(host: Host, kinds: dict[str, Instance]) -> None:
    instance, web = kinds["ct"], host.web
    units = "static-dicomweb static-dicomweb-scp static-dicomweb-feed orthanc@main"
    host.run(f"systemctl stop {units}")
    try:
        study = instance.url.partition("/series")[0]
        for path in (
            f"{study}/metadata",
            f"{study}/series",
            f"{study}/instances",
            f"{instance.url}/metadata",
            f"{instance.url}/frames/1",
        ):
            assert web.get(f"{STATIC}{path}", "*/*").ok
        assert web.get(f"{STATIC}{study}/thumbnail", "image/jpeg").headers["Content-Type"] == "image/jpeg"
        assert web.get(f"{STATIC}{instance.url}", "application/dicom").ok
        assert web.get(f"{STATIC}/studies").status_code == 502
    finally:
        host.run(f"systemctl start {units}")
    wait_for(lambda: web.get(f"{STATIC}/studies?limit=1").ok)


def test_what_came_while_it_was_down_arrives(host: Host, tmp_path: Path) -> None:
    study = ct_study(4, tmp_path, rows=32)
    host.run("systemctl stop static-dicomweb")
    Modality(host.address, 4242, "ORTHANC").send([instance.dataset for instance in study])
    time.sleep(8)
    host.run("systemctl start static-dicomweb; systemctl kill --signal=KILL static-dicomweb-feed")
    wait_for(lambda: len(held(host.web, study[0].dataset.StudyInstanceUID)) == 4, 180)


def test_what_the_archive_deletes_is_gone_and_may_come_corrected(host: Host, tmp_path: Path) -> None:
    study, other = ct_study(3, tmp_path, rows=32), of_kind("mr", tmp_path)
    web = fed(host, [*study, other])
    assert web.session.delete(web.url(study[0].url), timeout=60).status_code == 204
    wait_for(lambda: len(held(web, study[0].dataset.StudyInstanceUID)) == 2, 30)
    wait_for(lambda: web.get(f"{STATIC}{study[0].url}/frames/1", "*/*").status_code == 404, 30)
    wrong = study[0].url.partition("/series")[0]
    assert web.session.delete(web.url(wrong), timeout=60).status_code == 204
    wait_for(lambda: not web.get(f"{STATIC}{wrong}/metadata").ok, 30)
    for instance in study:
        instance.dataset.PatientName = "Right^Name"
    fed(host, study)
    assert {each["00100010"]["Value"][0]["Alphabetic"] for each in held(web, study[0].dataset.StudyInstanceUID)} == {"Right^Name"}
    assert len(held(web, other.dataset.StudyInstanceUID)) == 1


def test_dicomweb_client_uses_it(host: Host, tmp_path: Path) -> None:
    study = ct_study(3, tmp_path, rows=32)
    fed(host, study)
    session = requests.Session()
    session.verify, session.trust_env = False, False
    client = DICOMwebClient(f"https://{host.address}:9443/static-dicomweb", session=session)
    [found] = client.search_for_studies(search_filters={"StudyInstanceUID": study[0].dataset.StudyInstanceUID})
    uid = found["0020000D"]["Value"][0]
    assert {dataset.SOPInstanceUID for dataset in client.retrieve_study(uid)} == {each.dataset.SOPInstanceUID for each in study}
    assert len(client.retrieve_study_metadata(uid)) == 3
    ct = study[1].dataset
    [frame] = client.retrieve_instance_frames(uid, ct.SeriesInstanceUID, ct.SOPInstanceUID, [1])
    assert frame == ct.PixelData


def test_it_takes_and_gives_by_dimse(host: Host, tmp_path: Path) -> None:
    instance = of_kind("mr-rle", tmp_path)
    Modality(host.address, 11115, "DICOMWEBSCP").send([instance.dataset])
    web = host.web
    wait_for(lambda: len(held(web, instance.dataset.StudyInstanceUID)) == 1)
    archive = Archive(host.address, 11115, "DICOMWEBSCP")
    assert [each.StudyInstanceUID for each in archive.find("STUDY", StudyInstanceUID=instance.dataset.StudyInstanceUID)]
    [got] = archive.get(instance.dataset)
    assert same(got, instance.dataset)


def test_dicomwebscp_over_tls(host: Host) -> None:
    """PS3.15 B.12, with no certificate of the caller's own; where it listens itself nobody else reaches."""
    called = ["+tla", "-ic", "-aec", "DICOMWEBSCP", host.address, "2764"]
    assert subprocess.run(["/usr/bin/echoscu", *called], capture_output=True, timeout=60, check=False).returncode == 0
    assert not host.reached_at(21115)


def test_nothing_is_stored_without_space(host: Host, tmp_path: Path) -> None:
    instance, other = of_kind("ct", tmp_path), of_kind("mr", tmp_path)
    receiver = Archive(host.address, 11115, "DICOMWEBSCP")
    with nearly_full(host):
        assert receiver.store(instance.dataset) == 0xA700
        assert host.web.stow([other.path.read_bytes()], f"{STATIC}/studies").status_code == 507
        assert host.web.get(f"{STATIC}/studies?limit=1").status_code in (200, 204)
    assert receiver.store(instance.dataset) == 0
    wait_for(lambda: held(host.web, instance.dataset.StudyInstanceUID))
    assert not held(host.web, other.dataset.StudyInstanceUID)


def test_it_is_stored_and_removed_by_dicomweb_and_on_the_host(host: Host, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    study = instance.dataset.StudyInstanceUID
    web = host.web
    answer = web.stow([instance.path.read_bytes()], f"{STATIC}/studies")
    assert answer.status_code == 200 and len(held(web, study)) == 1
    assert web.request("DELETE", f"{STATIC}/studies/{study}").status_code == 204 and not held(web, study)
    command = ["scp", "-q", *SSH, str(instance.path), f"root@{host.address}:/srv/one.dcm"]
    subprocess.run(command, check=True, timeout=60)
    host.run("chmod 644 /srv/one.dcm; mkdicomweb create /srv/one.dcm")
    assert len(held(web, study)) == 1
    # What it made is the services', too.
    assert web.request("DELETE", f"{STATIC}/studies/{study}").status_code == 204
    refused = host.shell.run("mkdicomweb create /etc/hostname")
    assert refused.rc == 1 and "no DICOM file" in refused.stderr


def test_services_are_confined_and_the_tree_is_for_nginx_alone(host: Host) -> None:
    for unit in ("static-dicomweb", "static-dicomweb-scp", "static-dicomweb-feed"):
        level = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
        assert float(re.findall(r"\d+\.\d", level)[0]) < 2.5
    assert host.run(f"stat --format='%a %U %G' {TREE}").split() == ["2750", "static-dicomweb", "www-data"]
    assert not host.run(f"find {TREE} -mindepth 1 -not -type l -perm /o+rwx")
    said = host.run("journalctl --unit=static-dicomweb --unit=static-dicomweb-scp --unit=static-dicomweb-feed --output=cat | cat")
    assert "CompressedSamples" not in said and "1CT1" not in said
    assert "static_dicomweb_" in host.run(
        'curl --silent http://127.0.0.1:5000/metrics || python3 -c "import urllib.request as u;'
        "print(u.urlopen('http://127.0.0.1:5000/metrics').read().decode())\""
    )


def test_it_is_brought_into_s3(host: Host, tmp_path: Path) -> None:
    server = ThreadedMotoServer(CONTROL_NODE, S3_PORT, verbose=False)
    server.start()
    endpoint = f"http://{CONTROL_NODE}:{S3_PORT}"
    names = {"aws_access_key_id": "key-of-a-test", "aws_secret_access_key": "s3cret-of-a-test"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **names)
    client.create_bucket(Bucket="images")
    settings = {
        "static_dicomweb_s3_buckets": [{"Bucket": "images", "path": "site"}],
        "static_dicomweb_s3_endpoint": endpoint,
        "static_dicomweb_s3_region": "us-east-1",
        "static_dicomweb_s3_access_key": "key-of-a-test",
        "static_dicomweb_s3_secret_key": "s3cret-of-a-test",
    }
    try:
        done = play("site.yml", "--extra-vars", json.dumps(settings))
        assert done.returncode == 0, done.stdout[-3000:]
        assert "s3cret-of-a-test" not in done.stdout
        instance = of_kind("ct", tmp_path)
        fed(host, [instance])

        def is_there() -> bool:
            listed = client.list_objects_v2(Bucket="images", Prefix=f"site{instance.url}")
            return f"site{instance.url}/frames/1" in [each["Key"] for each in listed.get("Contents", [])]

        wait_for(is_there, 180)
        frame = client.get_object(Bucket="images", Key=f"site{instance.url}/frames/1")["Body"].read()
        assert frame == instance.dataset.PixelData
        assert "s3cret-of-a-test" not in host.run("ps -eo args; cat /etc/static-dicomweb-sync/static-wado.json5")
    finally:
        server.stop()
    back = play("site.yml")
    assert back.returncode == 0, back.stdout[-3000:]
    assert host.run("systemctl is-active static-dicomweb-sync || true").strip() == "inactive"


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"static_dicomweb_port": 80}, "static_dicomweb_port"),
        ({"static_dicomweb_port": 8042}, "8042"),
        ({"static_dicomweb_root": "/"}, "static_dicomweb_root"),
        ({"static_dicomweb_base": "static"}, "static_dicomweb_base"),
        ({"static_dicomweb_read_only": True}, "static_dicomweb_read_only"),
        ({"static_dicomweb_proxy_ae": "PACS"}, "static_dicomweb_entities"),
        ({"static_dicomweb_entities": {"PACS": {"host": "192.0.2.1"}}}, "PACS needs host and port"),
        ({"static_dicomweb_scp_aet": "SEVENTEEN-LETTERS"}, "SEVENTEEN-LETTERS"),
        ({"static_dicomweb_s3_buckets": [{"path": "x"}]}, "Bucket"),
        ({"static_dicomweb_s3_access_key": "x"}, "static_dicomweb_s3_secret_key"),
        ({"static_dicomweb_readonly": True}, "did you mean static_dicomweb_read_only"),
    ]
    assert not_refused(cases) == []
