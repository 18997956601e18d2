"""The worklist service's part of `make bench`: rates, searches over many workitems, and the way from a change to its event."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.client import connect
from worklist_client import GLOBAL, Client, code, element, new_uid, workitem

CLIENTS, SECONDS, REPEATS = 4, 5.0, 40
CHANGES = 100
SIZES = (1_000, 100_000)

# One workitem in 10 is at the same station and starts on the same day as nine others; ten are CANCELED; each patient has one.
_FILL = """
INSERT INTO workitems (uid, dataset, scheduled_start, modified, finished_at)
SELECT '2.25.' || n, %s::jsonb || jsonb_build_object(
    '00080018', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array('2.25.' || n)),
    '00100020', jsonb_build_object('vr', 'LO', 'Value', jsonb_build_array('BENCH-' || n)),
    '00404005', jsonb_build_object('vr', 'DT', 'Value', jsonb_build_array(
        to_char(date '2030-01-01' + n / 10, 'YYYYMMDD') || '0930')),
    '00404025', jsonb_build_object('vr', 'SQ', 'Value', jsonb_build_array(jsonb_build_object(
        '00080100', jsonb_build_object('vr', 'SH', 'Value', jsonb_build_array('ST' || n / 10))))),
    '00741000', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array(
        CASE WHEN n <= 10 THEN 'CANCELED' WHEN n %% 2 = 0 THEN 'SCHEDULED' ELSE 'COMPLETED' END))),
    date '2030-01-01' + n / 10 + interval '9 hours 30 minutes', now(),
    CASE WHEN n <= 10 OR n %% 2 = 1 THEN now() END
FROM generate_series(%s, %s) n
"""
SEARCHES = {
    "patient": "?PatientID=BENCH-77",
    "station": "?ScheduledStationNameCodeSequence.CodeValue=ST7",
    "state": "?ProcedureStepState=CANCELED",
    "state, of which half of all are, the first ten": "?ProcedureStepState=SCHEDULED&limit=10",
    "date": "?ScheduledProcedureStepStartDateTime=20300108",
}


class Bench:
    """Measures one host, as a client through nginx with TLS."""

    def __init__(self, address: str, ssh: list[str]) -> None:
        self.url = f"https://{address}:9443/dicom-web"
        self._ssh = ["ssh", *ssh, f"root@{address}"]

    def on_host(self, command: str, given: str = "") -> str:
        return subprocess.run([*self._ssh, command], input=given, capture_output=True, text=True, check=True).stdout

    def pgbench(self) -> float:
        """Return the transactions a second of PostgreSQL's own benchmark, each of which changes two rows and commits."""
        program = "/usr/lib/postgresql/17/bin/pgbench"
        run = f"{program} -i -q -s 10 postgres 2>/dev/null && {program} -N -c {CLIENTS} -j 2 -T {SECONDS:.0f} postgres"
        said = self.on_host(
            f"su postgres -c '{run}; psql -qc \"DROP TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers\"'"
        )
        return float(re.findall(r"tps = ([0-9.]+)", said)[0])

    def rate(self, request: Callable[[Client], int]) -> float:
        """Return how many requests a second some clients get through, each of which must be answered as expected."""
        end = time.monotonic() + SECONDS

        def ask(_: int) -> int:
            client, count = Client(self.url), 0
            while time.monotonic() < end:
                status = request(client)
                assert status in (200, 201), status
                count += 1
            return count

        with ThreadPoolExecutor(CLIENTS) as pool:
            return sum(pool.map(ask, range(CLIENTS))) / SECONDS

    def state_changes(self) -> float:
        waiting = [Client(self.url).created() for _ in range(600)]
        lock, begun = threading.Lock(), time.monotonic()

        def claim(_: int) -> None:
            client = Client(self.url)
            while True:
                with lock:
                    if not waiting:
                        return
                    uid = waiting.pop()
                assert client.change_state(uid, "IN PROGRESS", new_uid()).status_code == 200

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(claim, range(CLIENTS)))
        return 600 / (time.monotonic() - begun)

    def fill(self, first: int, last: int) -> None:
        template = json.dumps(workitem(T00404018=element("SQ", code("110005", "DCM"))))
        sql = _FILL % ("$template$" + template + "$template$", first, last)
        self.on_host("su postgres -c 'psql -q -v ON_ERROR_STOP=1 pyupsrs'", f"{sql}; VACUUM ANALYZE workitems;")

    def search_seconds(self) -> dict[str, float]:
        """Return the median seconds of each search."""
        client = Client(self.url)
        made = {}
        for name, query in SEARCHES.items():
            taken = []
            for _ in range(REPEATS):
                begun = time.monotonic()
                answer = client.search(query)
                taken.append(time.monotonic() - begun)
                assert len(answer.json()) in (1, 10), (name, len(answer.json()))
            made[name] = statistics.median(taken)
        return made

    async def latencies(self, subscribers: int) -> tuple[list[float], list[float]]:
        """Return the seconds from a change's request to its event at each subscriber, and to its own answer."""
        client = Client(self.url)
        names = [f"OF{subscribers}N{number}" for number in range(subscribers)]
        uids = [client.created() for _ in range(CHANGES)]
        context = ssl._create_unverified_context()
        arrived: list[tuple[str, float]] = []

        async def listen(name: str, ready: asyncio.Semaphore) -> None:
            async with connect(self.url.replace("https", "wss") + f"/ws/subscribers/{name}", ssl=context, proxy=None) as channel:
                ready.release()
                for _ in range(CHANGES):
                    text = await channel.recv()
                    arrived.append((json.loads(text)["00001000"]["Value"][0], time.monotonic()))

        for name in names:
            assert client.subscribe(GLOBAL, name).status_code == 201
        ready = asyncio.Semaphore(0)
        listening = [asyncio.create_task(listen(name, ready)) for name in names]
        for _ in names:
            await asyncio.wait_for(ready.acquire(), 60)
        begun, answered = {}, []
        for uid in uids:
            begun[uid] = time.monotonic()
            await asyncio.to_thread(client.change_state, uid, "IN PROGRESS", new_uid())
            answered.append(time.monotonic() - begun[uid])
            await asyncio.sleep(0.05 if subscribers == 1 else 0.25)
        await asyncio.wait_for(asyncio.gather(*listening), 60)
        for name in names:
            client.unsubscribe(GLOBAL, name)
        return [moment - begun[uid] for uid, moment in arrived], answered


def measure(address: str, ssh: list[str], line: Callable[[str, float, str, str], None]) -> None:
    """Measure a host that site.yml has built, and print a line for each figure."""
    bench = Bench(address, ssh)
    reference = bench.pgbench()
    creates = bench.rate(lambda client: client.create(workitem()).status_code)
    line(
        "UPS-RS creates a second, of PostgreSQL's own transactions (`pgbench -N`)",
        creates / reference,
        "",
        f"{creates:.0f} of {reference:.0f} a second",
    )
    changes = bench.state_changes()
    line("UPS-RS state changes a second, of the same", changes / reference, "", f"{changes:.0f} of {reference:.0f} a second")

    bench.on_host("su postgres -c 'psql -q pyupsrs'", "TRUNCATE workitems CASCADE")
    bench.fill(1, SIZES[0])
    qido = bench.rate(lambda client: client.session.get(f"{bench.url}/studies?PatientID=nobody&limit=1").status_code)
    searches = bench.rate(lambda client: client.search(SEARCHES["station"]).status_code)
    line(
        "UPS-RS searches a second with ten results, of Orthanc's QIDO-RS without any",
        searches / qido,
        "",
        f"{searches:.0f} of {qido:.0f} a second",
    )
    for subscribers in (1, 100):
        events, answers = asyncio.run(bench.latencies(subscribers))
        answer = statistics.median(answers)
        centiles = statistics.quantiles(events, n=100)
        for name, value in (("median", centiles[49]), ("99th percentile", centiles[98])):
            what = f"from a change to its event, {subscribers} subscribed, {name}, of the time to the change's answer"
            line(what, value / answer, "", f"{value * 1000:.1f} of {answer * 1000:.1f} ms")
    few = bench.search_seconds()
    bench.fill(SIZES[0] + 1, SIZES[1])
    many = bench.search_seconds()
    for name in SEARCHES:
        what = f"a search by {name} over {SIZES[1]:,} workitems, of the same over {SIZES[0]:,}"
        line(what, many[name] / few[name], "at most 2", f"{many[name] * 1000:.1f} of {few[name] * 1000:.1f} ms")
