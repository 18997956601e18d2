"""Studies of a DICOMweb server as what is rendered, and settings from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from datasets import Instance, ct_study, of_kind
from mkdicomweb import create, run
from orthanc_server import OrthancServer
from servers import stop
from static_dicomweb.config import read_config
from static_dicomweb.make import main
from static_dicomweb.store import dicom
from static_server import Server


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"viewer": "s3cret"}}
    made = OrthancServer(tmp_path_factory.mktemp("orthanc"), "ORTHANC", **users)
    made.session.auth = ("viewer", "s3cret")
    yield made
    made.stop()


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login viewer password s3cret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def instances(root: Path) -> list[bytes]:
    found = root.glob("instances/*/*/*")
    return sorted(b"".join(dicom(path)) for path in found if path.parent.name != "shared")


def test_a_study_of_a_server_is_rendered(orthanc: OrthancServer, credentials: None, tmp_path: Path) -> None:
    study: list[Instance] = [*ct_study(4, tmp_path, rows=32), of_kind("mr-rle", tmp_path)]
    for instance in study:
        orthanc.send(instance.dataset)
    addresses = {f"{orthanc.url}/dicom-web{instance.url.partition('/series')[0]}" for instance in study}
    done = run(tmp_path / "tree", "create", *sorted(addresses))
    assert done.exit_code == 0 and "5 rendered" in done.output, done.output
    stored = [orthanc.session.get(f"{orthanc.url}/instances/{each}/file", timeout=30).content for each in orthanc.get("/instances")]
    assert instances(tmp_path / "tree") == sorted(stored)
    assert "0 rendered, 5 there already" in run(tmp_path / "tree", "create", *addresses).output
    assert not list((tmp_path / "tree/incoming").iterdir())


def test_an_address_without_a_study_is_told_and_the_rest_goes_on(orthanc: OrthancServer, credentials: None, tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    nothing, away = f"{orthanc.url}/dicom-web/studies/1.2.3", "http://127.0.0.1:9/studies/1"
    done = run(tmp_path / "tree", "create", nothing, away, f"{orthanc.url}/system", instance.path)
    assert done.exit_code == 1 and "1 rendered" in done.output
    assert f"{nothing}: it answers 404" in done.output and f"{away}: " in done.output
    assert f"{orthanc.url}/system: its answer is no instances" in done.output


def test_without_credentials_it_is_said(orthanc: OrthancServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert "it answers 401" in run(tmp_path / "tree", "create", f"{orthanc.url}/dicom-web/studies/1.2.3").output


def test_a_source_that_is_not_there_stops_it_before_anything(tmp_path: Path) -> None:
    instance = of_kind("ct", tmp_path)
    done = create(tmp_path / "tree", instance.path, tmp_path / "nowhere")
    assert done.exit_code == 2 and "nowhere is no file" in done.output
    assert not list((tmp_path / "tree/instances").iterdir())


CONFIG = """{
  // As static-wado has it.
  staticWadoConfig: {
    rootDir: "ROOT",
    deployments: [{name: 'cloud', rootGroup: {Bucket: 'images', path: '/dicomweb'}}],
    s3Env: {account: '123456789012', region: 'eu-central-1'},
  },
  dicomWebServerConfig: {port: 5001, proxyAe: "myProxyAe"},
  dicomWebScpConfig: {aet: 'DICOMWEB', callers: ['CT1', 'CT2'], quietSeconds: 2},
  aeConfig: {myProxyAe: {description: "A proxy AE to use", host: "proxy.example.org", port: 104}},
}
"""


def test_a_file_of_the_known_form_is_what_is_taken_where_no_option_is_given(tmp_path: Path) -> None:
    path = tmp_path / "static-wado.json5"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path / "tree")))
    settings = read_config(path)
    assert settings["mkdicomweb"]["s3"] == ["s3://images/dicomweb"] and settings["mkdicomweb"]["s3_region"] == "eu-central-1"
    assert settings["dicomwebserver"]["port"] == 5001
    assert settings["dicomwebscp"]["entities"] == ["myProxyAe=proxy.example.org:104"]
    assert settings["dicomwebscp"]["proxy_ae"] == "myProxyAe" and settings["dicomwebscp"]["callers"] == ["CT1", "CT2"]

    plain = tmp_path / "plain.json5"
    plain.write_text(f"{{staticWadoConfig: {{rootDir: '{tmp_path}/tree', base: '/here'}}}}")
    instance = of_kind("ct", tmp_path)
    done = CliRunner().invoke(main, ["--config", str(plain), "create", str(instance.path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "tree/studies" / instance.dataset.StudyInstanceUID).exists()
    # Options win.
    done = CliRunner().invoke(main, ["--config", str(plain), "--root", str(tmp_path / "other"), "create", str(instance.path)])
    assert done.exit_code == 0 and (tmp_path / "other/studies").is_dir()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{staticWadoConfig: {rootdir: '/x'}}", "staticWadoConfig.rootdir: is unknown"),
        ("{dicomWebServerConfig: {port: '5000'}}", "dicomWebServerConfig.port"),
        ("{dicomWebServerConfig: {port: 70000}}", "dicomWebServerConfig.port"),
        ("{aeConfig: {PACS: {host: 'x'}}}", "aeConfig.PACS.port"),
        ("{aeConfig: {'A NAME OF 17 CHARS': {host: 'x', port: 1}}}", "aeConfig"),
        ("{staticWadoConfig: {rootDir: '/x'}", "no JSON5"),
        ("", "no JSON5"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "static-wado.json5"
    path.write_text(text)
    done = run(tmp_path / "tree", "--config", str(path), "create", str(path))
    assert done.exit_code == 2 and f"{path}: " in done.output and said in done.output, done.output


def test_orthanc_stores_into_it(tmp_path: Path) -> None:
    server = Server(tmp_path / "tree", tmp_path / "log")
    (tmp_path / "orthanc").mkdir()
    orthanc = OrthancServer(tmp_path / "orthanc", "ORTHANC", DicomWeb={"Servers": {"static": {"Url": f"{server.url}/"}}})
    try:
        sent = [of_kind(kind, tmp_path) for kind in ("ct", "mr-rle", "sr")]
        for instance in sent:
            orthanc.send(instance.dataset)
        asked = {"Resources": orthanc.get("/instances"), "Synchronous": True}
        done = orthanc.session.post(f"{orthanc.url}/dicom-web/servers/static/stow", json=asked, timeout=60)
        assert done.ok, done.text
        assert len(instances(tmp_path / "tree")) == 3
        search = {"Uri": "/studies", "Arguments": {"StudyInstanceUID": sent[0].dataset.StudyInstanceUID}}
        found = orthanc.session.post(f"{orthanc.url}/dicom-web/servers/static/get", json=search, timeout=60).json()
        assert len(found) == 1
    finally:
        orthanc.stop()
        stop(server.process, server.log)
