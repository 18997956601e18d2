"""Measures what docs/speed.md tells, on two bare hosts of this machine, and prints its table.

Every figure is a ratio against something on the same machine in the same run. Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]
BENCH = Path(__file__).parent
os.environ["MOLECULE_SCENARIO_DIRECTORY"] = str(BENCH)
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / "files/tests")]

from datasets import ct_study  # noqa: E402 - the path is set above
from hosts import HOSTS, SSH  # noqa: E402
from lab import line, on_bare_hosts, played, written_body  # noqa: E402
from worklist import measure  # noqa: E402

BUILT, PLAIN = (host.address for host in HOSTS)
PACKAGES = (
    "postgresql orthanc orthanc-dicomweb orthanc-postgresql nginx-light libnginx-mod-http-perl openssl nftables "
    "systemd-timesyncd python3-psycopg2"
)
INSTANCES, REPEATS = 100, 5


def timed(command: list[str]) -> float:
    """Return the seconds of a command; end with its output when it fails."""
    begun = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{command[0]} failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return time.monotonic() - begun


def on(address: str, command: str) -> float:
    return timed(["ssh", *SSH, f"root@{address}", command])


def stored() -> tuple[float, float]:
    """Return the median seconds of an unchanged storescu that sends a new study to the plain host, and to the built one."""
    seconds: dict[str, list[float]] = {PLAIN: [], BUILT: []}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as name:
            files = [str(instance.path) for instance in ct_study(INSTANCES, Path(name))]
            for address, taken in seconds.items():
                taken.append(timed(["/usr/bin/storescu", "-aec", "ORTHANC", address, "4242", *files]))
    return statistics.median(seconds[PLAIN]), statistics.median(seconds[BUILT])


def transfers(directory: Path) -> dict[str, float]:
    """Return the median seconds of STOW and WADO, directly and through nginx, measured on the host itself."""
    study = ct_study(INSTANCES, directory)
    body = written_body(study, directory / "body")
    timed(["scp", *SSH, str(body), str(BENCH / "transfer.py"), f"root@{BUILT}:/root/"])
    uid = study[0].dataset.StudyInstanceUID
    command = ["ssh", *SSH, f"root@{BUILT}", f"python3 transfer.py body {uid} {REPEATS}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: statistics.median(seconds[1:]) for name, seconds in json.loads(ended.stdout).items()}


def measure_site() -> None:
    apt = "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && apt-get install -q -y --no-install-recommends"
    plain = on(PLAIN, f"{apt} {PACKAGES}")
    first, second = played("site.yml"), played("site.yml")
    print("| what | figure | aim | measured |\n| --- | --- | --- | --- |")
    what = "`site.yml` on a bare host, of `apt-get install` of its packages"
    line(what, first / plain, "at most 2.0", f"{first:.1f} of {plain:.1f} s")
    line("`site.yml` again, of the same `apt-get install`", second / plain, "at most 0.5", f"{second:.1f} of {plain:.1f} s")
    before, after = stored()
    what = f"`storescu` of {INSTANCES} CT instances, times faster than to Debian's Orthanc as installed"
    line(what, before / after, "at least 8", f"{after:.2f} of {before:.2f} s")
    with tempfile.TemporaryDirectory() as name:
        seconds = transfers(Path(name))
    for kind in ("stow", "wado"):
        direct, through = seconds[f"{kind} direct"], seconds[f"{kind} nginx"]
        what = f"{kind.upper()}-RS of the study through nginx with TLS, speed of the same to Orthanc directly"
        line(what, direct / through, "at least 0.9", f"{through:.2f} of {direct:.2f} s")
    measure(BUILT, SSH, line)


def main() -> None:
    # The hosts are made before anything is timed: an archive of packages that is asked for the first time is not theirs.
    on_bare_hosts(measure_site)
    # The hosts of these are other scenarios'.
    for part in ("through_archive.py", "through_pipeline.py", "through_proxy.py", "through_static.py"):
        subprocess.run([sys.executable, str(BENCH / part)], check=True)


if __name__ == "__main__":
    main()
