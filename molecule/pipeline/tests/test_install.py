"""How the pipeline is installed and emptied: settings that are refused, and a reset that is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import ct_study
from dimse_client import Modality
from hosts import Host, not_refused, play
from pipeline_services import wait_for

FILES = "find /var/lib/received_dicom -name '*.dcm'"


def test_wrong_settings_stop_the_play_before_anything_changes() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pipeline_forwarder_rules": [{"match": {"Modality": "("}, "to": ["storage"]}]}, "pipeline_forwarder_rules: Rule 1"),
        ({"pipeline_forwarder_rules": [{"to": ["storage"]}]}, "match"),
        ({"pipeline_forwarder_servers": []}, "pipeline_forwarder_servers"),
        ({"pipeline_monitor_aet": "SEVENTEEN-LETTERS"}, "pipeline_monitor_aet"),
        ({"pipeline_monitor_output_dir": "/"}, "pipeline_monitor_output_dir"),
        ({"pipeline_monitor_retrieve": "push"}, "pipeline_monitor_retrieve"),
        ({"pipeline_monitor_poll_interval": 0}, "pipeline_monitor_poll_interval"),
        ({"pipeline_monitor_port": 22}, "pipeline_monitor_port"),
        ({"site_gateway_dicom_port": 4243}, "4243 is given twice"),
        ({"pipeline_monitor_outputdir": "/srv"}, "did you mean pipeline_monitor_output_dir"),
    ]
    assert not_refused(cases) == []


def sent(host: Host, directory: Path) -> str:
    instances = ct_study(2, directory, rows=16)
    Modality(host.address, 4242, "ORTHANC1").send([instance.dataset for instance in instances])
    return str(instances[0].dataset.StudyInstanceUID)


def test_a_reset_is_named_and_leaves_nothing_but_a_pipeline(host: Host, tmp_path: Path) -> None:
    study = sent(host, tmp_path)
    wait_for(lambda: host.run(FILES).count(study) == 2)
    for confirmed in ([], ["-e", "confirm=pipeline13"]):
        refused = play("playbooks/pipeline_reset.yml", *confirmed)
        assert refused.returncode != 0 and "confirm=molecule-pipeline" in refused.stdout
    assert host.run(FILES).count(study) == 2

    done = play("playbooks/pipeline_reset.yml", "-e", "confirm=molecule-pipeline")
    assert done.returncode == 0, done.stdout[-3000:]
    assert not host.run("find /var/lib/received_dicom -type f")
    assert host.orthanc(8042, "/studies") == host.orthanc(8043, "/studies") == []
    study = sent(host, tmp_path)
    wait_for(lambda: host.run(FILES).count(study) == 2)

    def extracted() -> dict[str, Any]:
        shown = json.loads(host.run("pipeline-monitor status --json"))["counts"]
        return dict(shown) if shown["extracted"]["studies"] else {}

    # The last file is in the tree a moment before its study is written down as done.
    wait_for(extracted)
    counts = extracted()
    assert counts["received"] == counts["forwarded"] == counts["extracted"] == {"studies": 1, "instances": 2}


def test_the_sender_is_there(host: Host) -> None:
    assert "DICOM" in host.run("dicom-send --help")
    assert "ORTHANC1" in host.run("cd / && dicom-send 127.0.0.1 9 /etc/hostname 2>&1; dicom-send --help")
