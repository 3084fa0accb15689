"""Takes in what members say of one job: each message is checked, fed to the core and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from anynode.rounds import coordinator, wire
from anynode.rounds.ballots import Proven
from anynode.rounds.certificates import check_proof
from anynode.rounds.chain import RecordLog
from anynode.rounds.driver import Driver
from anynode.rounds.effects import Answer, CoordinatorEffect, SendRecords
from anynode.rounds.events import CoordinatorMessage
from anynode.rounds.messages import (
    Accusation,
    ChunkDone,
    Claim,
    Commitment,
    DeliveryReceipt,
    Elsewhere,
    Join,
    Receipt,
    StateReport,
    Sync,
)
from anynode.rounds.packing import RECORDS_MAX
from anynode.rounds.records import SignedRecord
from anynode.rounds.statements import statement
from anynode.rounds.words import word_of
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check
from anynode_verifier.agreement import Agreement
from anynode_verifier.claim_checks import check_claim
from anynode_verifier.word_book import WordBook


class MemberDesk:
    """The members' way to one verifier, whose libp2p peer is ``peer_id``. ``verifier_peers`` are those of the others by
    their addresses; ``is_registered(node)`` asks whether a node can be paid, ``hand_on(claim)`` tells who is on duty.
    """

    def __init__(
        self,
        chain: RecordLog,
        driver: Driver[coordinator.State, CoordinatorMessage, CoordinatorEffect],
        agreement: Agreement,
        *,
        words: WordBook,
        domain: SigningDomain,
        peer_id: str,
        verifier_peers: Mapping[str, str],
        is_registered: Callable[[str], bool],
        hand_on: Callable[[Claim], None],
        clock: Callable[[], float],
    ) -> None:
        self._chain, self._driver, self._agreement = chain, driver, agreement
        self._words, self._domain, self._is_registered = words, domain, is_registered
        self._peer_id, self._verifier_peers = peer_id, verifier_peers
        self._hand_on, self._clock = hand_on, clock

    async def on_message(self, peer_id: str, request: bytes) -> bytes:
        """One message of a member, and the answer to it. Raises ``UserError`` for what is not taken in."""
        message = wire.parse_to_coordinator(request)
        if isinstance(message, Accusation):
            return await self._accused(message)
        if not self._agreement.on_duty:
            if isinstance(message, Claim):
                await self._overhear(peer_id, message)
            return self._point_elsewhere(message)
        self._authenticate(peer_id, message)
        if isinstance(message, Join) and not await asyncio.to_thread(self._is_registered, message.node):
            # A round is booked whole, so a member that nobody can pay would keep the others from their pay.
            raise RefusedError("this node has not handed in its registration; it is admitted once it has")

        def is_reply(effect: CoordinatorEffect) -> bool:
            return isinstance(effect, Answer | SendRecords) and effect.node == message.node

        answer: wire.Word | None = None
        records: tuple[SignedRecord, ...] = ()
        for effect in await self._driver.feed(message, reply=is_reply):
            if isinstance(effect, SendRecords):
                records = self._records(effect.height)
            elif isinstance(effect, Answer):
                answer = effect.message
                if isinstance(answer, Receipt):
                    answer = await self._receipt(answer)
        return wire.encode_answer(wire.CoordinatorAnswer(answer, records), self._chain.roster)

    async def _receipt(self, said: Receipt) -> Receipt | None:
        """The receipt that the core would give, signed, once it is on the disk. None if the duty has gone meanwhile."""
        held = self._driver.state.commitments.get(said.slot)
        if held is None or (held.round, word_of(held)) != (said.round, word_of(said)):
            return None
        receipt = self._words.receipt(held)
        await asyncio.to_thread(self._words.sync)
        return receipt

    async def _overhear(self, peer_id: str, claim: Claim) -> None:
        """Members claim before every verifier, so that none alone passes it over; who is on duty is told again."""
        self._authenticate(peer_id, claim)
        before = self._driver.state
        self._driver.state = coordinator.overhear(before, claim, self._clock())
        if self._driver.state is not before:
            self._hand_on(claim)

    async def _accused(self, accusation: Accusation) -> bytes:
        """A member has a proof against a verifier, which the others hear of."""
        proof = accusation.proof
        if proof.job != self._chain.job:
            raise RefusedError("the proof is of another job; tell the verifiers of that one")
        await asyncio.to_thread(check_proof, proof, self._domain, self._agreement.state.rules.verifiers)
        self._agreement.feed(Proven("proven", (proof,)))
        return wire.encode_answer(wire.CoordinatorAnswer(None, ()), self._chain.roster)

    def _point_elsewhere(self, message: wire.Said) -> bytes:
        """Who asks a verifier that is not on duty gets the records that it lacks, and the name of who is."""
        height = message.height if isinstance(message, Sync) else len(self._chain.records)
        holder = self._verifier_peers.get(self._agreement.holder, self._peer_id)
        answer = Elsewhere("elsewhere", message.node, holder)
        return wire.encode_answer(wire.CoordinatorAnswer(answer, self._records(height)), self._chain.roster)

    def _records(self, height: int) -> tuple[SignedRecord, ...]:
        return tuple(self._chain.records[height : height + RECORDS_MAX])

    def _authenticate(self, peer_id: str, message: wire.Said) -> None:
        """What counts is signed by the node key; the rest must come over the node's own libp2p peer."""
        state, job = self._driver.state, self._chain.job
        if isinstance(message, Join):
            if message.peer != peer_id:
                raise RefusedError("a node joins over its own libp2p peer; start it with its own identity")
        else:
            known = state.nodes.get(message.node)
            # Whoever brings a claim, its sender has signed it: verifiers hand them on.
            if not isinstance(message, Claim) and (known is None or known.peer != peer_id):
                if isinstance(message, Sync) and known is None:
                    return  # a newcomer catching up, or a member that a restarted coordinator does not know yet
                raise RefusedError("this node has not joined from this peer; join first")
        if isinstance(message, Join | Commitment | ChunkDone | DeliveryReceipt | StateReport):
            check(self._domain, statement(job, message), message.signature, message.node)
        if isinstance(message, Claim) and message.round in state.audits:
            check_claim(message, state.audits[message.round], self._domain, job)
