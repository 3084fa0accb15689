"""The shell around the agreement of verifiers on one job's records: it keeps promises, signs, and calls the others.

What others say is checked here for its form, its signatures and its certificates before the core hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from eth_account.signers.local import LocalAccount
from pydantic import Field, TypeAdapter, ValidationError

from anynode.rounds import quorum, voting, wire
from anynode.rounds.ballots import (
    Advanced,
    Ballot,
    Certified,
    Check,
    Checked,
    Checking,
    Effect,
    Event,
    Proposal,
    Proven,
    Said,
    Say,
    Standing,
    Supply,
    Tick,
)
from anynode.rounds.certificates import check_proof, is_signed
from anynode.rounds.chain import RecordLog, verify
from anynode.rounds.packing import RECORDS_MAX
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation
from anynode.swarm.limits import Rate
from anynode.swarm.peer import Peer
from anynode.worker.link import PUSH
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, RefusedError, StorageError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.signing import SigningDomain, check, sign

T = TypeVar("T")

log = logging.getLogger(__name__)

QUORUM = "quorum"
QUORUM_BYTES_MAX = 16 << 20
QUORUM_RATE = Rate(per_s=50.0, burst=500)
CALL_TIMEOUT_S = 10.0
TICK_S = 1.0

_said: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="kind")])
_kept: TypeAdapter[voting.Kept] = TypeAdapter(voting.Kept)
_proofs: TypeAdapter[tuple[Equivocation, ...]] = TypeAdapter(tuple[Equivocation, ...])


class Follows(Protocol):
    """Whether a record that ``holder`` proposes follows; ``prepared``: a quorum has found so in an earlier view."""

    def __call__(self, record: Record, *, holder: str, prepared: bool) -> Awaitable[bool]: ...


class Agreement:
    """One verifier's part in the agreement on a job. ``peer_of`` maps every other verifier to its libp2p peer.

    ``follows`` looks at each proposed record, which may take ``check_s``; ``keep(signed)`` takes a certified one in, in
    order.
    """

    def __init__(
        self,
        rules: voting.Rules,
        *,
        chain: RecordLog,
        folder: Path,
        peer: Peer,
        peer_of: Mapping[str, str],
        account: LocalAccount,
        domain: SigningDomain,
        follows: Follows,
        check_s: Callable[[Record], float],
        keep: Callable[[SignedRecord], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain, self._peer, self._peer_of = chain, peer, peer_of
        self._account, self._domain, self._follows, self._keep, self._clock = account, domain, follows, keep, clock
        self._check_s = check_s
        self._kept_path, self._proofs_path = folder / "promises.json", folder / "proofs.json"
        self._inbox: asyncio.Queue[Said | Event | tuple[SignedRecord, ...]] = asyncio.Queue()
        self._calls: set[asyncio.Future[None]] = set()
        self._changed = asyncio.Condition()
        kept = _read(_kept, self._kept_path, voting.Kept())
        self.state = quorum.restore(rules, kept, len(chain.records), chain.head, clock())
        proofs = _read(_proofs, self._proofs_path, ())
        self.state = replace(self.state, proofs={proof.signer: proof for proof in proofs})

    @property
    def on_duty(self) -> bool:
        return voting.on_duty(self.state)

    @property
    def holder(self) -> str:
        """Who is on duty, as far as is known here."""
        return self.state.rules.holder(self.state.view)

    def feed(self, message: Proven | Event | tuple[SignedRecord, ...]) -> None:
        """Take in an event of our own, or checked proofs or records from elsewhere."""
        self._inbox.put_nowait(message)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds; it is looked at after every change."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def run(self) -> None:
        """Take part until cancelled."""
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                await self._take(await self._inbox.get())
                async with self._changed:
                    self._changed.notify_all()
        finally:
            for task in (ticking, *self._calls):
                task.cancel()
            await asyncio.gather(ticking, *self._calls, return_exceptions=True)

    async def on_message(self, peer_id: str, request: bytes) -> bytes:
        """What another verifier says, itself: a signature is no sign of life in another's mouth. Raises ``BreachError``
        when it is malformed, or not from whom it says, or not signed as it must be.
        """
        try:
            message = _said.validate_json(request)
        except ValidationError as error:
            raise BreachError(
                "a verifier's message is malformed; update AnyNode here or there", Offence.SCHEMA
            ) from error
        if not isinstance(message, Proven) and self._peer_of.get(message.node) != peer_id:
            raise BreachError("a verifier says again what another has said; it is ignored", Offence.SIGNATURE)
        await asyncio.to_thread(self._authenticate, message)
        self._inbox.put_nowait(message)
        return b""

    # ------------------------------------------------------------ one message after the other

    async def _tick(self) -> None:
        while True:
            self._inbox.put_nowait(Tick())
            await asyncio.sleep(TICK_S)

    async def _take(self, message: Said | Event | tuple[SignedRecord, ...]) -> None:
        if isinstance(message, tuple):
            await self._ingest(message)
            return
        before = self.state
        self.state, effects = quorum.apply(before, message, self._clock())
        await self._write_promises(before)
        for effect in effects:
            await self._carry_out(effect)

    async def _write_promises(self, before: voting.State) -> None:
        """Before anything is said. A verifier that is alone promises nobody anything: its log is its word."""
        state = self.state
        if state.kept != before.kept and not state.alone:
            await asyncio.to_thread(write_aside, self._kept_path, canonical_json(asdict(state.kept)))
        if state.view != before.view:
            log.info("view %d: %s is on duty", state.view, self.holder)
        if state.proofs != before.proofs:
            log.warning("verifiers proven to have broken their word: %s", ", ".join(sorted(state.proofs)))
            data = canonical_json([asdict(proof) for proof in state.proofs.values()])
            await asyncio.to_thread(write_aside, self._proofs_path, data)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Say():
                self._say(self._signed(effect.message))
            case Check():
                self._inbox.put_nowait(Checking(effect.record.hash, self._check_s(effect.record)))
                self._in_background(self._check(effect.record))
            case Certified():
                await self._advance(effect.signed)
            case Supply():
                records = tuple(self._chain.records[effect.height : effect.height + RECORDS_MAX])
                request = self._chain.job.encode() + wire.encode_push(records, self._chain.roster)
                self._in_background(self._call(effect.node, PUSH, request))

    async def _advance(self, signed: SignedRecord) -> None:
        await self._keep(signed)
        await self._take(Advanced(signed.record.height + 1, signed.record.hash, signed.view))

    async def _ingest(self, records: tuple[SignedRecord, ...]) -> None:
        """Certified records from another verifier: what continues our chain is kept."""
        new = [item for item in records if item.record.height >= len(self._chain.records)]
        height, head = len(self._chain.records), self._chain.head
        try:
            verifiers = self.state.rules.verifiers
            await asyncio.to_thread(verify, new, self._chain.job, self._domain, verifiers, height=height, previous=head)
        except RefusedError as error:
            log.info("records of another verifier are not taken: %s", error)
            return
        for signed in new:
            await self._advance(signed)

    async def _check(self, record: Record) -> None:
        lock, proposal = self.state.kept.lock, self.state.proposal
        bases = [proposal.basis] if proposal is not None and proposal.basis.signatures else []
        prepared = any(basis is not None and basis.record == record for basis in (lock, *bases))
        follows = await self._follows(record, holder=self.holder, prepared=prepared)
        self._inbox.put_nowait(Checked(record.hash, follows))

    # ------------------------------------------------------------ what is said, and to whom

    def _signed(self, message: Said) -> Said:
        """With our signature, where there is one."""
        if isinstance(message, Proven):
            return message
        body = message if isinstance(message, Standing) else message.vote
        return replace(message, signature=sign(self._account, self._domain, statement(self._chain.job, body)))

    def _say(self, message: Said) -> None:
        self._inbox.put_nowait(message)
        self.tell(message)

    def tell(self, message: Said) -> None:
        """Tell every other verifier."""
        if not self._peer_of:
            return
        request = self._chain.job.encode() + canonical_json(asdict(message))
        for node in self._peer_of:
            self._in_background(self._call(node, QUORUM, request))

    async def _call(self, node: str, name: str, request: bytes) -> None:
        try:
            await self._peer.call(self._peer_of[node], name, request, CALL_TIMEOUT_S, 64)
        except UserError as error:
            log.debug("%s to verifier %s: %s", name, node, error)

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a task of the agreement failed: %s", error, exc_info=error)

    def _authenticate(self, message: Said) -> None:
        """Who says it has signed it, and what it rests on holds."""
        verifiers, job = self.state.rules.verifiers, self._chain.job
        if isinstance(message, Proven):
            for proof in message.proofs:
                check_proof(proof, self._domain, verifiers)
            return
        body = message if isinstance(message, Standing) else message.vote
        check(self._domain, statement(job, body), message.signature, message.node)
        basis = message.lock if isinstance(message, Standing) else None
        if isinstance(message, Proposal) and message.basis.signatures:
            basis = message.basis
        if basis is not None and not is_signed(basis, "prepare", self._domain, verifiers):
            raise BreachError("a record that a verifier calls prepared is not; it is ignored", Offence.SIGNATURE)
        if isinstance(message, Ballot) and message.proposed:
            if message.vote.phase != "prepare":
                raise BreachError("only a prepare vote answers a proposal; it is ignored", Offence.SCHEMA)
            holder = self.state.rules.holder(message.vote.view)
            check(self._domain, statement(job, message.vote), message.proposed, holder)


def _read(adapter: TypeAdapter[T], path: Path, missing: T) -> T:
    """What an earlier run has written. Raises ``UserError`` when it is damaged: forgotten promises would be broken."""
    try:
        return adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        return missing
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; mend the disk") from error
    except ValidationError as error:
        raise UserError(f"{path} is damaged; restore it, or this verifier may break what it has promised") from error
