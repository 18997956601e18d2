"""The pipeline at a glance: the page in a real browser, the metrics, and what strangers may not do."""

from __future__ import annotations

import re
from pathlib import Path

from browser import shown
from datasets import ct_study
from dimse_client import Modality
from hosts import Host
from pipeline_services import wait_for
from web import Web


def test_a_browser_shows_what_went_through(host: Host, tmp_path: Path) -> None:
    instances = ct_study(4, tmp_path, rows=16)
    Modality(host.address, 4242, "ORTHANC1").send([instance.dataset for instance in instances])
    find = f"find /var/lib/received_dicom -path '*/{instances[0].dataset.StudyInstanceUID}/*.dcm'"
    wait_for(lambda: len(host.run(find).split()) == len(instances))

    def page() -> str:
        return shown(f"https://{host.address}:9443/pipeline/", tmp_path / "profile")

    wait_for(lambda: "waiting 0 0 failed 0 0" in page(), 120)
    text = page()
    counts = {name: tuple(map(int, found)) for name, *found in re.findall(r"(received|forwarded|extracted) (\d+) (\d+)", text)}
    assert counts["received"] == counts["forwarded"] == counts["extracted"] >= (1, 4)
    assert "Behind by 0.0 s" in text and "pipeline-forwarder ok" in text and "pipeline-monitor ok" in text


def test_metrics_and_no_commands_for_strangers(host: Host) -> None:
    web = Web(f"https://{host.address}:9443")
    metrics = web.session.get(f"{web.root}/pipeline/metrics", timeout=30).text
    assert re.search(r'^pipeline_monitor_studies\{state="done"\} \d+', metrics, re.M)
    assert re.search(r"^pipeline_monitor_behind_seconds ", metrics, re.M)
    for command in ("retry", "repeat"):
        assert web.session.post(f"{web.root}/pipeline/{command}", json={}, timeout=30).status_code == 404


def test_logs_name_no_patient_and_units_are_confined(host: Host) -> None:
    told = host.run("journalctl --unit=pipeline-monitor --unit=pipeline-forwarder --output=cat | cat")
    assert "extracted" in told and "CompressedSamples" not in told and "1CT1" not in told
    for unit in ("pipeline-monitor", "pipeline-forwarder"):
        level = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
        assert float(re.findall(r"\d+\.\d", level)[0]) < 2.5
