"""Prometheus metrics, summed over the workers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from service.metrics import summed

REQUESTS = Counter("pyupsrs_requests_total", "Requests answered", ["transaction", "status"])
SECONDS = Histogram("pyupsrs_request_seconds", "Seconds from a request to its answer", ["transaction"])
EVENTS_DELIVERED = Counter("pyupsrs_events_delivered_total", "Events that subscribers have read")
EVENTS_EXPIRED = Counter("pyupsrs_events_expired_total", "Events dropped because their subscriber stayed away too long")
WORKITEMS_DELETED = Counter("pyupsrs_workitems_deleted_total", "Workitems deleted after their retention")
CHANNELS = Gauge("pyupsrs_channels", "Open notification channels", multiprocess_mode="livesum")


def page(workitems: dict[str, int], waiting: int) -> bytes:
    """Return the metrics in Prometheus' text format, with the workitems by state and the events that wait."""
    by_state = Gauge("pyupsrs_workitems", "Workitems by state", ["state"], registry=None)
    for state, count in workitems.items():
        by_state.labels(state).set(count)
    queue = Gauge("pyupsrs_events_waiting", "Events that wait for their subscriber", registry=None)
    queue.set(waiting)
    own = CollectorRegistry()
    own.register(by_state)
    own.register(queue)
    return summed(REQUESTS, SECONDS, EVENTS_DELIVERED, EVENTS_EXPIRED, WORKITEMS_DELETED, CHANNELS) + generate_latest(own)
