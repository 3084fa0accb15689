"""Prometheus metrics of a verifier, read from its jobs when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from anynode.rounds.coordinator import Phase
from anynode.rounds.course import Close, Result, Seal
from anynode.watch.families import build_info, dropped_peers, traffic_bytes
from anynode_verifier.job_run import JobRun
from anynode_verifier.service import Verifier
from anynode_verifier.status import accepted_samples, audits

JOBS_MAX = 32
"""Of the newest jobs only: a verifier that runs for years must not fill its operator's database."""


class VerifierMetrics(Collector):
    """``anynode_job_*`` by job (the first 16 digits of its id), and the peer's own. Nothing before `watch`."""

    def __init__(self) -> None:
        self._verifier: Verifier | None = None

    def watch(self, verifier: Verifier) -> None:
        """Read ``verifier`` from now on."""
        self._verifier = verifier

    def collect(self) -> Iterator[Metric]:
        yield build_info()
        if self._verifier is None:
            return
        yield from job_metrics(list(self._verifier.runs.values())[-JOBS_MAX:], time.monotonic())
        yield from traffic_bytes(self._verifier.peer.traffic)
        yield from dropped_peers(self._verifier.peer.conduct)


def job_metrics(runs: list[JobRun], now: float) -> Iterable[Metric]:
    """The families of all ``runs``."""

    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"anynode_job_{name}", text, labels=["job", *labels])

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"anynode_job_{name}", text, labels=["job", *labels])

    round_, phase = gauge("round", "The round under way."), gauge("phase", "1 for the phase it is in.", "phase")
    alive, members = gauge("members_alive", "Members heard of lately."), gauge("members", "Members of this round.")
    loss, last = gauge("validation_loss", "Of the newest state."), gauge("last_round_seconds", "The last whole round.")
    lasted = SummaryMetricFamily("anynode_job_round_seconds", "From open to close.", labels=["job"])
    accepted = counter("samples_accepted", "Samples with an accepting verdict.")
    sealed, steps = counter("samples_committed", "Samples sealed."), counter("steps", "Steps of the state.")
    audited = counter("audits", "Judged commitments.", "outcome")
    leaning = gauge("members_leaning", "Members whose tolerant audits lean to one side.")
    forks = counter("state_forks", "States that differed from the coordinator's.")
    for run in runs:
        job, state, bodies = run.job.job_id[:16], run.driver.state, run.log.bodies
        round_.add_metric([job], state.round)
        for each in Phase:
            phase.add_metric([job, each.value], float(each is state.phase))
        nodes = list(state.nodes.values())
        alive.add_metric([job], sum(node.joined and now - node.seen_at < run.rules.alive_s for node in nodes))
        members.add_metric([job], len(state.open.members) if state.open else 0)
        leaning.add_metric([job], sum(node.standing.lean.crossed for node in nodes))
        if losses := dict(run.progress.losses):
            loss.add_metric([job], losses[max(losses)])
        seconds = run.progress.round_s()
        lasted.add_metric([job], len(seconds), sum(seconds.values()))
        if seconds:
            last.add_metric([job], seconds[max(seconds)])
        found = [record.body for record in bodies]
        seals = [body for body in found if isinstance(body, Seal)]
        sealed.add_metric([job], sum(item.samples for body in seals for item in body.commitments))
        accepted.add_metric([job], accepted_samples(bodies))
        steps.add_metric([job], sum(body.steps for body in found if isinstance(body, Result)))
        for outcome, count in audits(bodies).items():
            audited.add_metric([job, outcome], count)
        forks.add_metric([job], sum(len(body.forks) for body in found if isinstance(body, Close)))
    return (round_, phase, alive, members, loss, last, lasted, sealed, accepted, steps, audited, leaning, forks)
