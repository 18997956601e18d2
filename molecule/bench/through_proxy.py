"""The proxy's part of `make bench`, on a host of its own: how soon and how fast studies come through it."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(Path(__file__).parents[1] / "proxy")

import lab
from hosts import HOSTS
from lab import brought, line, on, on_bare_hosts, played, sent

ADDRESS = HOSTS[0].address
PYTHON = "/opt/dicomweb-site/dicomweb-proxy/current/venv/bin/python"
LARGE, SMALL, STUDIES = 500, 100, 8
# Each retrieval is a new one.
SETTINGS = {"dicomweb_proxy_use_cget": True, "dicomweb_proxy_cache": False, "dicomweb_proxy_max_associations": 8}


def measure() -> None:
    played("site.yml", "--extra-vars", json.dumps(SETTINGS))
    brought(ADDRESS, "proxy_load.py")
    studies = [sent(ADDRESS, "ORTHANC", LARGE)] + [sent(ADDRESS, "ORTHANC", SMALL) for _ in range(STUDIES)]
    on(ADDRESS, "systemctl restart dicomweb-proxy; sleep 2")
    figures = json.loads(on(ADDRESS, f"{PYTHON} /root/proxy_load.py {' '.join(studies)}"))
    memory = lab.peak_kb(ADDRESS, "dicomweb-proxy") // 1024
    first, bare = figures["first_byte"], figures["first_dataset"]
    what = f"first byte of a study of {LARGE} CT instances through the proxy, of the first dataset of a bare C-GET by pynetdicom"
    line(what, first / bare, "at most 3", f"{first * 1000:.0f} of {bare * 1000:.0f} ms")
    what = f"the whole study of {LARGE} through the proxy, of DCMTK's getscu without Nagle's algorithm"
    line(what, figures["whole"] / figures["getscu"], "at most 1.5", f"{figures['whole']:.2f} of {figures['getscu']:.2f} s")
    together, one = figures["at_once"] / 1e6, figures["one"] / 1e6
    what = f"{STUDIES} studies of {SMALL} at once through the proxy, of the bytes a second of one after the other"
    line(what, together / one, "at least 1", f"{together:.0f} of {one:.0f} MB/s")
    find, search = figures["find"] * 1000, figures["search"] * 1000
    line(
        "a search for studies through the proxy, of its C-FIND by pynetdicom",
        search / find,
        "at most 1.5",
        f"{search:.1f} of {find:.1f} ms",
    )
    line("memory of the proxy throughout, in MB", memory, "below 200", f"{memory} MB")


if __name__ == "__main__":
    on_bare_hosts(measure)
