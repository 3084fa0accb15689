"""Prometheus metrics of a member, read from its :class:`Activity` when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from anynode.swarm.reachability import Way
from anynode.watch.activity import PHASES, Activity
from anynode.watch.families import build_info, dropped_peers, one_of, traffic_bytes


class MemberMetrics(Collector):
    """``anynode_member_*``. Labels are fixed words only, so the number of series does not grow."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def collect(self) -> Iterable[Metric]:
        at = self._activity
        yield build_info(at.job)
        yield GaugeMetricFamily("anynode_member_round", "The round under way.", max(at.round, 0))
        yield one_of("anynode_member_phase", "What the round is at.", "phase", PHASES, at.phase)
        yield one_of("anynode_member_way_in", "How others reach this node.", "way", tuple(Way), at.way_in)
        yield GaugeMetricFamily("anynode_member_members", "Members of the round under way.", at.members)
        yield GaugeMetricFamily("anynode_member_reduces", "1 if this node reduces for others.", float(at.reduces))
        yield CounterMetricFamily("anynode_member_steps", "Inner steps taken.", at.steps)
        yield GaugeMetricFamily("anynode_member_steps_per_second", "Inner steps a second, lately.", at.steps_per_s)
        if at.loss is not None:
            yield GaugeMetricFamily("anynode_member_loss", "Training loss of the last step shown.", at.loss)
        yield CounterMetricFamily("anynode_member_samples_committed", "Samples sealed.", at.samples_committed)
        yield CounterMetricFamily("anynode_member_samples_accepted", "Samples with a verdict.", at.samples_accepted)
        verdicts = CounterMetricFamily("anynode_member_verdicts", "Verdicts on this node's work.", labels=["verdict"])
        for verdict in ("accepted", "rejected", "void"):
            verdicts.add_metric([verdict], at.verdicts[verdict])
        yield verdicts
        yield CounterMetricFamily("anynode_member_chunks_reduced", "Chunks averaged for others.", at.done["reduce"])
        yield CounterMetricFamily("anynode_member_state_downloads", "States fetched from the swarm.", at.done["state"])
        yield CounterMetricFamily("anynode_member_exchange_seconds", "From seal to result.", at.exchange_s)
        yield CounterMetricFamily("anynode_member_compute_seconds", "Time in inner steps.", at.compute_s)
        yield GaugeMetricFamily("anynode_member_utilisation", "Share of the time in inner steps.", at.utilisation)
        yield SummaryMetricFamily("anynode_member_round_seconds", "From open to close.", at.rounds, at.rounds_s)
        yield GaugeMetricFamily("anynode_member_last_round_seconds", "The last whole round.", at.last_round_s)
        yield from traffic_bytes(at.traffic)
        if at.conduct is not None:
            yield from dropped_peers(at.conduct)
