"""Metric families that members and verifiers share, so that one dashboard reads both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from anynode import __version__
from anynode.rounds.messages import PROTOCOL
from anynode.swarm.conduct import Conduct
from anynode.swarm.traffic import Traffic


def build_info(job: str = "") -> Metric:
    """Version and protocol, and the job of a member."""
    facts = {"version": __version__, "protocol": str(PROTOCOL)} | ({"job": job} if job else {})
    return InfoMetricFamily("anynode_build", "What runs here.", facts)


def one_of(name: str, text: str, label: str, values: Sequence[str], value: str) -> Metric:
    """1 for the value that holds, 0 for the others."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for each in values:
        family.add_metric([each], float(each == value))
    return family


def traffic_bytes(traffic: Traffic) -> Iterable[Metric]:
    """Payload bytes by service and direction."""
    family = CounterMetricFamily("anynode_peer_bytes", "Payload on streams.", labels=["direction", "kind"])
    for direction, counted in (("sent", traffic.sent_bytes), ("received", traffic.received_bytes)):
        for kind, size_bytes in list(counted.items()):
            family.add_metric([direction, kind], size_bytes)
    yield family


def dropped_peers(conduct: Conduct) -> Iterable[Metric]:
    """Strikes against peers, and who is dropped now."""
    yield CounterMetricFamily("anynode_peer_strikes", "Rubbish that peers have sent.", conduct.strikes)
    yield CounterMetricFamily("anynode_peer_drops", "Peers dropped for it so far.", conduct.drops)
    yield GaugeMetricFamily("anynode_peers_dropped", "Peers that are dropped now.", len(conduct.dropped()))
