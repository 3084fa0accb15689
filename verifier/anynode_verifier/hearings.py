"""How the appeals of one job are heard here, and how the other verifiers come to know of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from typing import TYPE_CHECKING

from anynode.rounds.appeals import APPEAL_BYTES_MAX, Appeal
from anynode.rounds.events import Appealed, Heard
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing
from anynode.swarm.hashes import HASH_HEX_BYTES, split_hash
from anynode.swarm.peer import Peer
from anynode.worker.link import ASK_RATE
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.appeal_desk import APPEAL, AppealDesk
from anynode_verifier.replays import Replayer

if TYPE_CHECKING:
    from anynode_verifier.job_run import JobRun

AGAIN_S = 10.0
"""So often the other verifiers are told of an appeal that waits: one may not have been there."""
CALL_TIMEOUT_S = 20.0


class Hearings:
    """The appeals of one job: ``desk`` keeps them, the verifier on duty has them replayed. ``others`` are the libp2p
    peers of the other verifiers.
    """

    def __init__(
        self,
        run: JobRun,
        replayer: Replayer,
        domain: SigningDomain,
        *,
        peer: Peer,
        others: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._run, self._replayer, self._peer, self._others = run, replayer, peer, others
        self.desk = AppealDesk(
            run.job,
            domain,
            run.home.folder / "appeals",
            records=lambda: run.log.records,
            standing_of=self._standing_of,
            holder_of=run.agreement.state.rules.holder,
            is_closed=run.stakes.closed,
            clock=clock,
        )
        self.desk.open()

    @property
    def waiting(self) -> bool:
        """Whether an appeal waits to be heard."""
        return bool(self.desk.waiting)

    def note(self, record: Record) -> None:
        """One more record of the chain."""
        self.desk.note(record)

    async def take_in(self, data: bytes, caller: str) -> Appeal:
        """Take in an appeal from ``caller``. Every verifier keeps it until it is heard, by whoever is on duty then."""
        appeal = await asyncio.to_thread(self.desk.take_in, data, caller)
        if self._run.agreement.on_duty:
            await self._run.driver.feed(Appealed(appeal))
        return appeal

    async def hear(self, appeal: Appeal) -> Heard:
        """Replay rejected work once more, whole and in a fresh process."""
        found = await self._replayer.replay(self.desk.replay_of(appeal.round, appeal.node))
        return Heard(self.desk.ruling(appeal, found))

    async def pursue(self) -> None:
        """Say again what waits: a core forgets it with its duty, another verifier may not have been there."""
        while True:
            for appeal in list(self.desk.waiting.values()):
                if self._run.agreement.on_duty:
                    await self._run.driver.feed(Appealed(appeal))
                request = self._run.job.job_id.encode() + canonical_json(asdict(appeal))
                for other in self._others:
                    with contextlib.suppress(UserError):
                        await self._peer.call(other, APPEAL, request, CALL_TIMEOUT_S, 64)
            await asyncio.sleep(AGAIN_S)

    def _standing_of(self, node: str) -> Standing:
        known = self._run.driver.state.nodes.get(node)
        return known.standing if known is not None else Standing()


async def serve_appeals(peer: Peer, others: Collection[str], run_of: Callable[[str], Awaitable[JobRun]]) -> None:
    """Take in the appeals that other verifiers (libp2p peers ``others``) hand on."""

    async def on_appeal(peer_id: str, request: bytes) -> bytes:
        if peer_id not in others:
            raise RefusedError("appeals come from their worker, over the API, or from a verifier; this one is ignored")
        job_id, appeal = split_hash(request)
        await (await run_of(job_id)).appeals.take_in(appeal, peer_id)
        return b""

    await peer.serve(APPEAL, on_appeal, limit_bytes=APPEAL_BYTES_MAX + HASH_HEX_BYTES, rate=ASK_RATE)
