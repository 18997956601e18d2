"""Prometheus metrics."""

from __future__ import annotations

import logging

from dicomweb.transaction import Meter
from prometheus_client import Counter, Gauge

METER = Meter("dicomweb_proxy", logging.getLogger("dimse_proxy"))
ASSOCIATIONS = Counter("dicomweb_proxy_associations_total", "Associations asked for", ["peer"])
OPEN_ASSOCIATIONS = Gauge("dicomweb_proxy_open_associations", "Associations that are open", ["peer"])
PEER_UP = Gauge("dicomweb_proxy_peer_up", "Whether the peer could be reached when it was last asked", ["peer"])
INSTANCES = Counter("dicomweb_proxy_instances_total", "Instances that came", ["peer"])
CACHE_HITS = Counter("dicomweb_proxy_cache_hits_total", "Retrievals answered from the cache")
