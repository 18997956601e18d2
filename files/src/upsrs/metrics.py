"""Prometheus metrics, summed over the workers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

REQUESTS = Counter("pyupsrs_requests_total", "Requests answered", ["transaction", "status"])
SECONDS = Histogram("pyupsrs_request_seconds", "Seconds from a request to its answer", ["transaction"])
EVENTS_DELIVERED = Counter("pyupsrs_events_delivered_total", "Events that subscribers have read")
EVENTS_EXPIRED = Counter("pyupsrs_events_expired_total", "Events dropped because their subscriber stayed away too long")
WORKITEMS_DELETED = Counter("pyupsrs_workitems_deleted_total", "Workitems deleted after their retention")
CHANNELS = Gauge("pyupsrs_channels", "Open notification channels", multiprocess_mode="livesum")


def _forget_dead_workers(directory: Path) -> None:
    """Drop the gauges of workers that were killed and could not do it themselves."""
    for path in directory.glob("gauge_live*.db"):
        number = re.search(r"_(\d+)\.db$", path.name)
        if number and not Path(f"/proc/{number[1]}").exists():
            mark_process_dead(int(number[1]), str(directory))  # type: ignore[no-untyped-call]


def page(workitems: dict[str, int], waiting: int) -> bytes:
    """Return the metrics in Prometheus' text format, with the workitems by state and the events that wait."""
    # One for all workers where there are several: prometheus_client then keeps their values in files.
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        for metric in (REQUESTS, SECONDS, EVENTS_DELIVERED, EVENTS_EXPIRED, WORKITEMS_DELETED, CHANNELS):
            registry.register(metric)
    by_state = Gauge("pyupsrs_workitems", "Workitems by state", ["state"], registry=None)
    for state, count in workitems.items():
        by_state.labels(state).set(count)
    queue = Gauge("pyupsrs_events_waiting", "Events that wait for their subscriber", registry=None)
    queue.set(waiting)
    own = CollectorRegistry()
    own.register(by_state)
    own.register(queue)
    return generate_latest(registry) + generate_latest(own)
