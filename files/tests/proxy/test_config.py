"""config.jsonc: the known form is taken, and what is wrong in it is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dimse_proxy.config import Config, read_config
from dimse_proxy.jsonc import SyntaxProblemError, parse
from hypothesis import given
from hypothesis import strategies as st

KNOWN_FORM = """{
  "proxyMode": "dimse", // dimse or dicomweb
  /* Where requests pass to
     in the other mode. */
  "dicomwebProxySettings": {
    "qidoForwardingUrl": "https://qido.example.org/qido",
    "wadoForwardingUrl": "https://wado.example.org/wado"
  },
  "dimseProxySettings": {
    "proxyServer": { "aet": "PACSBIN_PROXY", "ip": "0.0.0.0", "port": 8888 },
    "peers": [ { "aet": "PACS_SERVER", "ip": "127.0.0.1", "port": 11112 }, { "aet": "OTHER", "ip": "::1", "port": 104 } ],
    "maxConcurrentConnections": 1,
    "delayBetweenRequestsMs": 100
  },
  "webserverPort": 3006,
  "storagePath": "./data",
  "enableCache": false,
  "cacheRetentionMinutes": 60,
  "cacheMaxMegabytes": 500,
  "useCget": true,
  "useFetchLevel": "SERIES",
  "maxAssociations": 4,
  "qidoMinChars": 0,
  "qidoAppendWildcard": true,
  "ssl": {
    "enabled": false, "port": 443, "certPath": "/certs/server.crt", "keyPath": "/certs/server.key",
    "generateSelfSigned": false, "redirectHttp": true
  },
  "cors": {
    "origin": ["*"],
    "methods": ["GET", "POST", "PUT", "DELETE", "OPTIONS"],
    "allowedHeaders": ["Content-Type", "Authorization", "Accept"],
    "credentials": true,
  },
}
"""


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.jsonc"
    path.write_text(text)
    return read_config(path)


def test_the_known_form_is_taken(tmp_path: Path) -> None:
    config = read(tmp_path, KNOWN_FORM)
    assert [peer.aet for peer in config.dimse.peers] == ["PACS_SERVER", "OTHER"]
    assert (config.associations, config.use_cget, config.use_fetch_level) == (1, True, "SERIES")
    assert config.ssl.redirect_http and not config.enable_cache


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"useCget": true', '"useCGet": true', ":20: useCGet: is unknown"),
        ('"port": 104', '"port": 70000', ":11: dimseProxySettings.peers.1.port: "),
        ('"port": 104', '"port": "104"', ":11: dimseProxySettings.peers.1.port: "),
        ('"aet": "OTHER"', '"aet": "AN AE TITLE THAT IS TOO LONG"', ":11: dimseProxySettings.peers.1.aet: "),
        ('"proxyMode": "dimse"', '"proxyMode": "dicom"', ":2: proxyMode: "),
        ('"qidoMinChars": 0', '"qidoMinChars": -1', ":23: qidoMinChars: "),
        ('"useFetchLevel": "SERIES"', '"useFetchLevel": "PATIENT"', ":21: useFetchLevel: "),
        ('"https://qido.example.org/qido"', '"qido.example.org"', ":6: dicomwebProxySettings.qidoForwardingUrl: "),
        ('"origin": ["*"]', '"origin": ["viewer.example.org"]', ":30: cors.origin: 'viewer.example.org' is no origin"),
        (
            '"enabled": false, "port": 443',
            '"enabled": true, "port": 3006',
            "webserverPort, ssl.port and proxyServer.port must differ",
        ),
        ('"storagePath": "./data",', '"storagePath": "./data"', ":17: "),
        ('"maxAssociations": 4', '"maxAssociations": 4, "maxAssociations": 5', ":22: maxAssociations is given twice"),
        ('"peers": [', '"peers": [], "others": [', "dimseProxySettings.peers: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in KNOWN_FORM
    with pytest.raises(ValueError, match=r"config\.jsonc:") as raised:
        read(tmp_path, KNOWN_FORM.replace(old, new))
    assert told in str(raised.value)


def test_no_secret_is_told(tmp_path: Path) -> None:
    secrets = '"apiKey": ["s3cret"], "basicAuth": [{"user": "a:b", "password": "s3cret"}]'
    with pytest.raises(ValueError, match="basicAuth") as raised:
        read(tmp_path, KNOWN_FORM.replace('"useCget"', f'{secrets}, "useCget"'))
    assert "s3cret" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JSON)
def test_all_json_is_jsonc(content: object) -> None:
    assert parse(json.dumps(content, indent=1) + "// end")[0] == content
    assert parse("/* begin */" + json.dumps(content, ensure_ascii=False))[0] == content


def test_comments_within_texts_are_texts() -> None:
    assert parse('{"a": "// no /* comment */ ,]"} // a comment')[0] == {"a": "// no /* comment */ ,]"}


@pytest.mark.parametrize("text", ["", "{", '{"a": 1,, }', "[1 2]", '{"a": NaN}', "/* {}", "{'a': 1}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        parse(text)
