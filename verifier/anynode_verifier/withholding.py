"""Audit secrets that were not revealed: whose they were, and how a sealer reveals one when it is not on duty any more.

Whoever draws the audits of a round asks its sealer, and so does whoever is to sign that it has withheld its secret. A
sealer gives it only once its own chain shows the block of the draw; while that is silent, it says so and is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anynode.rounds.audit_secrets import opens
from anynode.rounds.course import Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode.swarm.frames import PeerRefusedError
from anynode.swarm.hashes import HASH_HEX_BYTES, parse_hash, split_hash
from anynode.swarm.peer import Peer
from anynode.worker.link import ASK_RATE
from anynode_contracts.errors import RefusedError, UnreachableError, UserError

if TYPE_CHECKING:
    from anynode_verifier.job_run import JobRun

log = logging.getLogger(__name__)

REVEAL = "reveal"
REVEAL_S = 30.0
"""So long a draw waits for a sealer that has lost its duty: a process that has died is back by then."""
CHAIN_S = 600.0
"""And so long, since it was first asked, for one whose chain is silent: for ever would be a way to withhold."""
CHAIN_SILENT = "chain-silent"
SEALS_KEPT = 256
PAUSE_S = 2.0
CALL_TIMEOUT_S = 5.0

AskSealer = Callable[[Seal], Awaitable[str]]
"""The secret of a sealed round, or nothing where its sealer does not give it."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """The verdict on ``round``, the record with the hash ``evidence``, had to do without the secret of ``sealer``."""

    job: str
    round: int
    sealer: str
    secret_hash: str
    evidence: str


def withheld_in(job: str, records: Iterable[Record]) -> tuple[Withheld, ...]:
    """What the records of a job show."""
    seals: dict[int, Seal] = {}
    found = []
    for record in records:
        match record.body:
            case Seal(round=number) as seal:
                seals[number] = seal
            case Verdict(round=number, secret=""):
                seal = seals[number]
                found.append(Withheld(job, number, seal.sealer, seal.secret_hash, record.hash))
            case _:
                pass
    return tuple(found)


class Sealers:
    """The other sealers of one job: ``peer_of`` maps them to their libp2p peers."""

    def __init__(
        self,
        job: str,
        peer: Peer,
        peer_of: Mapping[str, str],
        *,
        wait_s: float = REVEAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._peer, self._peer_of, self._wait_s, self._clock = job, peer, peer_of, wait_s, clock
        self._asked_at: dict[str, float] = {}

    async def ask(self, seal: Seal) -> str:
        """The secret of a round that another has sealed; nothing if it does not give it in time."""
        if seal.sealer not in self._peer_of:
            return ""
        began = self._clock()
        first = self._asked_at.setdefault(seal.secret_hash, began)
        self._asked_at = dict(list(self._asked_at.items())[-SEALS_KEPT:])
        while True:
            secret, has_no_chain = await self._ask_once(seal)
            limit = max(began + self._wait_s, first + CHAIN_S) if has_no_chain else began + self._wait_s
            left_s = limit - self._clock()
            if secret or left_s <= 0:
                return secret
            await asyncio.sleep(min(PAUSE_S, left_s))  # it may be starting

    async def _ask_once(self, seal: Seal) -> tuple[str, bool]:
        """The secret, if it is given; and whether its sealer says that it cannot see the block of the draw."""
        request = self._job.encode() + seal.secret_hash.encode()
        try:
            answer = await self._peer.call(self._peer_of[seal.sealer], REVEAL, request, CALL_TIMEOUT_S, HASH_HEX_BYTES)
            secret = parse_hash(answer)
        except UserError as error:
            log.debug("verifier %s does not reveal the secret of round %d: %s", seal.sealer, seal.round, error)
            return "", isinstance(error, PeerRefusedError) and error.code == CHAIN_SILENT
        return secret if opens(secret, seal.secret_hash) else "", False


async def serve_secrets(peer: Peer, others: Iterable[str], run_of: Callable[[str], Awaitable[JobRun]]) -> None:
    """Reveal our secrets to the other verifiers (libp2p peers ``others``), each once the block of its draw is there."""
    known = frozenset(others)

    async def on_secret(peer_id: str, request: bytes) -> bytes:
        if peer_id not in known:
            raise RefusedError("audit secrets are revealed in verdicts; before, only to the other verifiers")
        job_id, secret_hash = split_hash(request)
        run = await run_of(job_id)
        try:
            return (await run.reveal(parse_hash(secret_hash))).encode()
        except UnreachableError as error:
            raise PeerRefusedError(str(error), code=CHAIN_SILENT) from error

    await peer.serve(REVEAL, on_secret, limit_bytes=2 * HASH_HEX_BYTES, rate=ASK_RATE)
