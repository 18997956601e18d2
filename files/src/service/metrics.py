"""Prometheus metrics, summed over the workers of a service."""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead


def _forget_dead_workers(directory: Path) -> None:
    """Drop the gauges of workers that were killed and could not do it themselves."""
    for path in directory.glob("gauge_live*.db"):
        number = re.search(r"_(\d+)\.db$", path.name)
        if number and not Path(f"/proc/{number[1]}").exists():
            mark_process_dead(int(number[1]), str(directory))  # type: ignore[no-untyped-call]


def summed(*metrics: MetricWrapperBase) -> bytes:
    """Return a service's metrics in Prometheus' text format."""
    # One for all workers where there are several: prometheus_client then keeps their values in files.
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        for metric in metrics:
            registry.register(metric)
    return generate_latest(registry)
