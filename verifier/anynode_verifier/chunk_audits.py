"""Averages chunks of closed rounds again, from what their senders delivered, and compares with what was recorded.

The contributions come by their hashes from the reducer, its witness or the senders themselves, and each is the one that
its sender has committed to. The arithmetic is exact, so another hash is a proof; a second process repeats it before
anybody is accused.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.course import ChunkResult
from anynode.rounds.effects import AverageAgain
from anynode.rounds.events import AveragedAgain
from anynode.rounds.giving import look_s
from anynode.rounds.judgements import ReductionJudged
from anynode.swarm.blob_exchange import fetch_manifest
from anynode.swarm.payloads import SILENT_S, fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits, ReduceInput, ReduceSpec
from anynode.worker.exchange import UPDATE_BYTES_MAX
from anynode.worker.home import JobHome
from anynode_contracts.errors import UnreachableError, UserError
from anynode_verifier.effect_names import failure_key
from anynode_verifier.resuming import trainer_keeper
from anynode_verifier.tries import Tries

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 8
FETCHES_MAX = 3
PAUSE_S = 2.0
"""Who does not answer now may in a moment."""
MANIFESTS_AT_ONCE = 16
MANIFEST_TIMEOUT_S = 20.0

Payloads = Mapping[int, tuple[str, ...]]
"""By slot, the hashes of the chunks of its update."""


class ChunkAuditor:
    """Averages chunks of one job again. ``trainers`` keeps the process that does; a fresh one confirms what differs.
    ``others`` gives the libp2p peers of other verifiers: what a reducer has given to one of them, all have.
    """

    def __init__(
        self,
        job: Job,
        home: JobHome,
        peer: Peer,
        store: BlobStore,
        *,
        trainers: TrainerKeeper,
        others: Callable[[], Sequence[str]],
    ) -> None:
        self._job, self._peer, self._store, self._trainers, self._others = job, peer, store, trainers, others
        self._second = trainer_keeper(store.folder, home, "second.log", Limits(nice=5))
        self._turn, self._tries = asyncio.Lock(), Tries()

    async def average_again(self, effect: AverageAgain) -> AveragedAgain:
        """What is wrong with the drawn chunks of a round; whatever is not named is right. Raises ``UserError`` if that
        cannot be told now; after a few tries the chunks are void.
        """
        entries = {entry.chunk: entry for entry in effect.result.chunks}
        drawn = [entries[chunk] for chunk in effect.chunks]
        async with self._turn:
            found = await self._tries.outcome(
                failure_key(effect),
                self._differing(effect, drawn),
                lambda why: [_judge(effect, entry, "void", why) for entry in drawn],
            )
        for item in found:
            log.warning("round %d, chunk %d (slot %d): %s", effect.open.round, item.chunk, item.slot, item.reason)
        return AveragedAgain(effect.open.round, tuple(found))

    async def _differing(self, effect: AverageAgain, drawn: Sequence[ChunkResult]) -> list[ReductionJudged]:
        payloads = await self._contributions(effect, drawn)
        found: list[ReductionJudged] = []
        for start in range(0, len(drawn), CHUNKS_AT_ONCE):
            found += await self._judged(effect, drawn[start : start + CHUNKS_AT_ONCE], payloads)
        return found

    async def _judged(
        self, effect: AverageAgain, entries: Sequence[ChunkResult], payloads: Payloads
    ) -> list[ReductionJudged]:
        there = [entry for entry in entries if self._is_here(entry, payloads)]
        missing = "its reducer does not give what it has averaged, and nobody else has it"
        lacking = [entry for entry in entries if entry not in there]
        found = [_judge(effect, entry, "withheld", missing) for entry in lacking]
        specs = {entry.chunk: self._spec(effect, entry, payloads) for entry in there}
        first = await self._average(self._trainers, specs)
        doubted = [entry for entry in there if first[entry.chunk] != entry.result]
        try:
            second = await self._average(self._second, {entry.chunk: specs[entry.chunk] for entry in doubted})
        finally:
            await self._second.close()
        for entry in doubted:
            if second[entry.chunk] == entry.result:
                log.error("chunk %d averages to two results on this machine; check its memory", entry.chunk)
                continue
            gives = f"{second[entry.chunk][:16]}…" if second[entry.chunk] else "nothing at all"
            reason = f"averaging its senders' chunks gives {gives}, and its reducer signed {entry.result[:16]}…"
            found.append(_judge(effect, entry, "rejected", reason))
        return sorted(found, key=lambda item: item.chunk)

    # ------------------------------------------------------------ contributions

    async def _contributions(self, effect: AverageAgain, drawn: Sequence[ChunkResult]) -> Payloads:
        """Bring here what these chunks average, as far as it comes in the time of a look."""
        limit_s = look_s(effect.open.work_s + effect.open.exchange_s)
        payloads: dict[int, tuple[str, ...]] = {}
        try:
            async with asyncio.timeout(limit_s):
                await self._manifests(effect, drawn, payloads)
                await self._fetch(effect, drawn, payloads, limit_s / 2)
        except TimeoutError:
            log.info("round %d: contributions have not come within %.0f s", effect.open.round, limit_s)
        return payloads

    async def _manifests(
        self, effect: AverageAgain, drawn: Sequence[ChunkResult], payloads: dict[int, tuple[str, ...]]
    ) -> None:
        """The chunks of each sender's update, for all of whom its manifest can be had."""
        roots = {item.slot: item.update_root for item in effect.seal.commitments}
        turns = asyncio.Semaphore(MANIFESTS_AT_ONCE)

        async def look(slot: int) -> None:
            # In no order that anybody knows, or silent ones might stand before all others in every look.
            holders = {slot, *(entry.reducer for entry in drawn if slot in entry.senders)}
            sources = [effect.open.members[holder].peer for holder in holders]
            random.SystemRandom().shuffle(sources)
            try:
                async with turns:
                    manifest = await fetch_manifest(
                        self._peer,
                        self._store,
                        roots[slot],
                        "update",
                        [*sources, *self._others()],
                        size_max_bytes=UPDATE_BYTES_MAX,
                        timeout_s=MANIFEST_TIMEOUT_S,
                    )
            except UserError as error:
                log.info("round %d, slot %d: no manifest (%s)", effect.open.round, slot, error)
            else:
                payloads[slot] = tuple(chunk.hash for chunk in manifest.chunks)

        await asyncio.gather(*(look(slot) for slot in sorted({slot for entry in drawn for slot in entry.senders})))

    async def _fetch(
        self, effect: AverageAgain, drawn: Sequence[ChunkResult], payloads: Payloads, limit_s: float
    ) -> None:
        """From the reducers first, for no longer than ``limit_s``, and of each first what only it has. Then from the
        senders themselves, from witnesses and from other verifiers: who has kept silent once is not waited for again.
        """
        members = effect.open.members
        witnesses = {item.chunk: item.witness for item in effect.assign.reducers}
        wanted = [(entry, slot, digest) for entry in drawn for slot, digest in _contributions(entry, payloads)]
        wanted.sort(key=lambda item: item[1] != item[0].reducer)
        from_reducers = {digest: members[entry.reducer].peer for entry, _, digest in wanted}
        from_senders = {
            digest: members[slot if slot != entry.reducer else witnesses[entry.chunk]].peer
            for entry, slot, digest in wanted
        }
        beside = [members[witnesses[entry.chunk]].peer for entry in drawn]
        others = list(dict.fromkeys([*beside, *self._others()]))
        for turn in range(1 if effect.look else FETCHES_MAX):
            if turn:
                await asyncio.sleep(PAUSE_S)
            if await self._all_come(from_reducers, (), limit_s) or await self._all_come(from_senders, others):
                return
            log.info("round %d: contributions are missing", effect.open.round)

    async def _all_come(self, makers: Mapping[str, str], others: Sequence[str], limit_s: float | None = None) -> bool:
        """Fetch one contribution at a time: what has come has come when a slow line runs out of time."""
        try:
            async with asyncio.timeout(limit_s):
                await fetch_payloads(self._peer, self._store, makers, "", others, at_once=1, silent_s=SILENT_S)
        except UnreachableError as error:
            log.debug("%s", error)
            return False
        except TimeoutError:
            return False
        return True

    def _is_here(self, entry: ChunkResult, payloads: Payloads) -> bool:
        contributions = _contributions(entry, payloads)
        return len(contributions) == len(entry.senders) and all(self._store.has(digest) for _, digest in contributions)

    # ------------------------------------------------------------ averaging

    def _spec(self, effect: AverageAgain, entry: ChunkResult, payloads: Payloads) -> ReduceSpec:
        sealed = {item.slot: item for item in effect.seal.commitments}
        inputs = tuple(
            ReduceInput(slot, digest, sealed[slot].samples, sealed[slot].steps)
            for slot, digest in _contributions(entry, payloads)
        )
        return ReduceSpec(self._job.job_id, effect.open.round, entry.chunk, effect.open.refresh, inputs)

    async def _average(self, keeper: TrainerKeeper, specs: Mapping[int, ReduceSpec]) -> dict[int, str]:
        """By chunk, the hash of the average, empty where these contributions give none."""
        if not specs:
            return {}
        outcomes = await (await keeper.get()).reduce(list(specs.values()))
        return {
            chunk: outcome if isinstance(outcome, str) else "" for chunk, outcome in zip(specs, outcomes, strict=True)
        }


def _contributions(entry: ChunkResult, payloads: Payloads) -> list[tuple[int, str]]:
    """Sender and hash of what a chunk averages, as far as the manifests are known."""
    return [
        (slot, payloads[slot][entry.chunk])
        for slot in entry.senders
        if slot in payloads and entry.chunk < len(payloads[slot])
    ]


def _judge(
    effect: AverageAgain, entry: ChunkResult, outcome: Literal["rejected", "withheld", "void"], reason: str
) -> ReductionJudged:
    return ReductionJudged(entry.chunk, entry.reducer, effect.open.members[entry.reducer].node, outcome, reason)
