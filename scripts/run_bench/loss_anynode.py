"""AnyNode's side of the bench `loss`: the peers of a swarm one after the other, by the modules that they run.

Nothing of the protocol's arithmetic is written here. Work, quantisation, averaging and the outer step are
`anynode.training.inner` and `anynode.exact`, on the exported graph, with the samples that `anynode.rounds.deal` deals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loss_peers import Progress
from loss_settings import BATCH_SIZE, MUON_BETA2, MUON_EXCEPT, PEERS, WARMUP_STEPS, Rates, Setting
from loss_world import World

from anynode.blobs.manifest import Manifest
from anynode.exact.layout import chunk_specs, refresh_due
from anynode.exact.outer import NextRound
from anynode.exact.reduce import Contribution, reduce_chunk, steps_advance
from anynode.exact.state import State
from anynode.exact.update import KIND
from anynode.jobs.settings import Training
from anynode.rounds.deal import deal, sample_indices, take, work_seed
from anynode.training.inner import Workload, work
from anynode.training.messages import WorkResult, WorkSpec
from anynode.training.rules import end_round, exchange_rules
from anynode_contracts.canonical import hash_hex

_MUON: dict[str, Any] = {"optimizer": "muon", "muon_except": MUON_EXCEPT, "beta2": MUON_BETA2}

START_ROOT = hash_hex(b"anynode bench loss state")
"""Stands where a peer names the state that it starts from: here all share one."""


def training_of(setting: Setting, rates: Rates) -> Training:
    """The job's settings: those that ship, but for what the bench varies."""
    advance = steps_advance([(steps * BATCH_SIZE, steps) for steps in setting.steps_by_slot])
    return Training(
        batch_size=BATCH_SIZE,
        inner_steps=setting.inner_steps,
        rounds=setting.rounds,
        learning_rate=rates.learning_rate,
        total_steps=setting.rounds * advance,
        warmup_steps=WARMUP_STEPS,
        outer_lr=rates.outer[0],
        outer_momentum=rates.outer[1],
        refresh_rounds=setting.refresh_rounds,
        **_MUON if setting.optimizer == "muon" else {},
    )


def train(world: World, setting: Setting, rates: Rates, seed: int) -> Iterator[Progress]:
    """One swarm's training from beginning to end, a progress after each round."""
    settings = training_of(setting, rates)
    swarm = _Swarm(world, settings, setting, seed)
    sent_bytes = 0
    for _ in range(setting.rounds):
        sent_bytes += swarm.round()
        yield Progress(swarm.state.cursor, sent_bytes, swarm.state.parameters())


class _Swarm:
    """The state that all peers hold, and what they do in a round."""

    def __init__(self, world: World, settings: Training, setting: Setting, seed: int) -> None:
        self._world, self._settings = world, settings
        self._quotas = setting.steps_by_slot
        self._workload = Workload(world.graph.loss, world.batch, settings)
        self.state = State.initial(world.job_id(seed), world.initial(seed))

    def round(self) -> int:
        """Deal, work, average, apply. Gives the bytes that one peer sends: its update less its own share, and its
        share of the result to all others.
        """
        state = self.state
        settings = self._settings
        due = refresh_due(state.round, settings.refresh_rounds, state.has_moments)
        refresh = settings.publishes_moments and due
        samples = [quota * BATCH_SIZE for quota in self._quotas]
        pool, cursor, returned = take(state.cursor, state.returned, sum(samples))
        ranges = deal(pool, samples, work_seed(state.job_id, state.round, "bench"))
        indices = [sample_indices(state.job_id, mine, self._world.data.samples) for mine in ranges]
        worked = [self._work(slot, chosen, refresh) for slot, chosen in enumerate(indices)]
        results = []
        for spec in chunk_specs(state.layout.values, refresh):
            contributions = [
                Contribution(slot, payloads[spec.index], result.samples, result.steps)
                for slot, (result, payloads) in enumerate(worked)
            ]
            results.append(reduce_chunk(spec, contributions, exchange_rules(settings)))
        advance = steps_advance([(result.samples, result.steps) for result, _ in worked])
        after = NextRound(state.round + 1, cursor, returned)
        self.state = end_round(state, results, settings, refresh=refresh, steps_advance=advance, after=after)
        update_bytes = sum(len(payload) for payload in worked[0][1])
        return (update_bytes + sum(map(len, results))) * (PEERS - 1) // PEERS

    def _work(self, slot: int, indices: list[int], refresh: bool) -> tuple[WorkResult, list[bytes]]:
        """One worker's result and the payloads of its update, in the order of the chunks."""
        store: dict[str, bytes] = {}

        def keep(piece: bytes) -> str:
            name = hash_hex(piece)
            store[name] = piece
            return name

        spec = WorkSpec(
            job_id=self.state.job_id,
            round=self.state.round,
            slot=slot,
            state_root=START_ROOT,
            steps=self._quotas[slot],
            indices=tuple(indices),
            refresh=refresh,
        )
        result = work(self._workload, self.state, spec, keep)
        manifest = Manifest.from_bytes(store[result.update_root], root=result.update_root, kind=KIND)
        return result, [store[chunk.hash] for chunk in manifest.chunks]
