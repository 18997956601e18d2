"""The archive's part of `make bench`: Orthanc's plugin, and then the site's own service, on one host, through nginx with TLS."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(Path(__file__).parents[1] / "static")

from datasets import ct_study
from hosts import HOSTS, SSH
from lab import BENCH, line, on, on_bare_hosts, played, store, written_body

ADDRESS = HOSTS[0].address
SMALL, LARGE, REPEATS = 1500, 500, 5
FEW, MANY = 1000, 100_000
# As many studies of a patient with one instance each as there are numbers, as Orthanc's index has them, each after the one before.
STUDIES = """
INSERT INTO resources (resourcetype, publicid, parentid) SELECT 0, 'bench-patient', NULL
  WHERE NOT EXISTS (SELECT FROM resources WHERE publicid = 'bench-patient');
SELECT max(internalid) + 1 - 3 * {first} AS base FROM resources \\gset
INSERT INTO resources (internalid, resourcetype, publicid, parentid)
  SELECT :base + 3 * number + level, level + 1, 'bench-' || level || '-' || number, CASE level
    WHEN 0 THEN (SELECT internalid FROM resources WHERE publicid = 'bench-patient') ELSE :base + 3 * number + level - 1 END
  FROM generate_series({first}, {last}) AS number, generate_series(0, 2) AS level ORDER BY number, level;
SELECT setval(pg_get_serial_sequence('resources', 'internalid'), max(internalid)) FROM resources;
INSERT INTO maindicomtags (id, taggroup, tagelement, value)
  SELECT :base + 3 * number + level, tags.taggroup, tags.tagelement, '2.25.' || 9 - level || number
  FROM generate_series({first}, {last}) AS number,
    (VALUES (0, 32, 13), (1, 32, 14), (2, 8, 24)) AS tags (level, taggroup, tagelement);
INSERT INTO dicomidentifiers (id, taggroup, tagelement, value)
  SELECT :base + 3 * number, 32, 13, '2.25.9' || number FROM generate_series({first}, {last}) AS number;
ANALYZE;
"""

Seconds = dict[str, list[tuple[float, int]]]


def brought() -> list[str]:
    """Store what is asked for, bring what asks, and return its arguments."""
    with tempfile.TemporaryDirectory() as name:
        directories = [Path(name, part) for part in ("small", "large", "stow")]
        for directory in directories:
            directory.mkdir()
        small, large = ct_study(SMALL, directories[0], rows=64), ct_study(LARGE, directories[1])
        for directory in directories[:2]:
            store(ADDRESS, "ORTHANC", directory)
        stored = ct_study(LARGE, directories[2])
        body = written_body(stored, Path(name, "body"))
        subprocess.run(
            ["scp", *SSH, str(body), str(BENCH / "transfer.py"), str(BENCH / "ask_archive.py"), f"root@{ADDRESS}:/root/"],
            check=True,
            capture_output=True,
        )
        one = large[0].dataset
        uids = [each[0].dataset.StudyInstanceUID for each in (small, large, stored)]
    return [uids[0], uids[1], one.SeriesInstanceUID, one.SOPInstanceUID, "body", uids[2], str(REPEATS)]


def asked(arguments: list[str]) -> Seconds:
    found: Seconds = json.loads(on(ADDRESS, f"python3 ask_archive.py {' '.join(arguments)}"))
    return found


def median(found: Seconds, name: str) -> float:
    return statistics.median(seconds for seconds, _ in found[name])


def search_seconds(first: int, last: int) -> float:
    """Return the median seconds of a search for 100 studies, after so many more were made."""
    on(ADDRESS, f"su postgres -c 'psql -q -v ON_ERROR_STOP=1 orthanc' <<'END'\n{STUDIES.format(first=first, last=last)}\nEND")
    ask = "curl -s -k -o /dev/null --fail -w '%{time_total} ' 'https://127.0.0.1:9443/dicom-web/studies?limit=100'"
    return statistics.median(map(float, on(ADDRESS, f"for n in $(seq 7); do {ask}; done").split()))


def measure() -> None:
    # The plugin would make metadata as soon as nothing more comes.
    settings = ("-e", "site_storage_stable_seconds=600")
    played("site.yml", *settings, "-e", "site_dicomweb=orthanc")
    on(ADDRESS, "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends curl")
    arguments = brought()
    plugin = asked(arguments)
    played("site.yml", *settings, "-e", "site_dicomweb=own")
    own = asked(arguments)
    print("| what | figure | aim | measured |\n| --- | --- | --- | --- |")
    for name, what, aim in (
        ("instances", f"the instances of a study of {SMALL} (QIDO-RS)", "at least 50"),
        ("first metadata", f"metadata of {SMALL} instances, asked for the first time", "at least 10"),
        ("metadata", f"metadata of {SMALL} instances, asked for again", "at least 20"),
        ("study", f"a study of {LARGE} (WADO-RS)", "at least 1.5"),
        ("stow", f"a STOW-RS of {LARGE}", "at least 1"),
        ("frame", f"one frame of a study of {LARGE}", "above 1"),
    ):
        before, after = median(plugin, name), median(own, name)
        of_plugin = f"`site_dicomweb: own`: {what}, times as fast as Orthanc's plugin"
        line(of_plugin, before / after, aim, f"{after:.3f} of {before:.3f} s")
    before, after = plugin["first metadata"][0][1], own["first metadata"][0][1]
    line(
        "the bytes of these metadata, of the plugin's",
        after / before,
        "at most 0.025",
        f"{after / 1e3:.0f} of {before / 1e3:.0f} KB",
    )
    few, many = search_seconds(1, FEW), search_seconds(FEW + 1, MANY)
    what = f"`/studies?limit=100` over {MANY} studies, of its time over {FEW}"
    line(what, many / few, "at most 2", f"{many * 1e3:.0f} of {few * 1e3:.0f} ms")


if __name__ == "__main__":
    on_bare_hosts(measure)
