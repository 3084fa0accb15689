"""Simulated verifiers that agree on a chain under a seeded network and clock, some of them liars.

Signatures are words that say who signed what; certificates and proofs are checked with them as the shells check real
ones. Nobody can write another's word, but a liar signs whatever it likes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3
from hexbytes import HexBytes
from web3 import Web3

from anynode.rounds import quorum, voting
from anynode.rounds.ballots import (
    Advanced,
    Ballot,
    Certified,
    Check,
    Checked,
    Checking,
    Expected,
    Proposal,
    Proven,
    Say,
    Standing,
    Supply,
    Tick,
    Wanted,
)
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Begin, Seal
from anynode.rounds.records import GENESIS, Body, Record, SignedRecord
from anynode.rounds.votes import Equivocation, Vote
from anynode_contracts.errors import RefusedError
from anynode_verifier.block_checks import BlockChecks
from anynode_verifier.blocks import Blocks
from anynode_verifier.repeats import own_draw, share_ppm

JOB = "5" * 64
VICES = (
    *("two records", "signs anything", "silent", "no follower", "runs ahead", "forgets", "hides"),
    *("idle", "replays", "seals far off", "accepts falsely"),
)
"""Of a liar: it gives one record to some and another to others; votes for whatever it hears of; says nothing; proposes
what does not follow; claims high views; keeps no lock; tells only one that it certifies, and then proposes another; is
there and proposes nothing; says again where others stood, those that are dead too; seals a round that could never be
judged; has false work accepted, as which each of the others finds it that repeats it.
"""
RECORD_DUE_S, REPLAY_S = 20.0, 25.0
"""Of every third record work is replayed before it is signed, by those who draw it, longer than anything else may take.
"""
FALSE = 98
GOOD, BAD = 1, 99


@dataclass(frozen=True)
class Weather:
    """Probabilities per message; delays and times in seconds. After ``until_s`` the network is calm.

    ``mute``: how likely a verifier dies when it has a certificate and before it tells anybody.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s_max: float = 0.05
    crashes: int = 0
    partitions: int = 0
    mute: float = 0.0
    until_s: float = 0.0


@dataclass
class Verifier:
    """One simulated verifier: its core, its disk (promises and chain), and whether it runs."""

    name: str
    state: voting.State
    vice: str = ""
    up: bool = True
    dead: bool = False
    life: int = 0
    group: int = 0
    disk: voting.Kept = field(default_factory=voting.Kept)
    chain: list[SignedRecord] = field(default_factory=list)

    @property
    def honest(self) -> bool:
        return not self.vice


def word(node: str, vote: Vote) -> str:
    """The signature of ``node`` over ``vote``."""
    return f"{node}|{vote.height}|{vote.view}|{vote.phase}|{vote.record}"


def is_signed(signed: SignedRecord, phase: Any, verifiers: Verifiers) -> bool:
    vote = Vote(signed.record.height, signed.view, phase, signed.record.hash)
    for proof in signed.proofs:
        if not is_proof(proof):
            return False
    excluded = {proof.signer for proof in signed.proofs}
    signers = {node for node in verifiers.addresses if word(node, vote) in signed.signatures}
    return len(signers) == len(signed.signatures) >= verifiers.needed(excluded) and not signers & excluded


def is_proof(proof: Equivocation) -> bool:
    words = tuple(word(proof.signer, vote) for vote in proof.votes)
    return proof.records[0] != proof.records[1] and words == proof.signatures


class SimulatedBlocks(Blocks):
    """A chain with a block a second."""

    def __init__(self, world: QuorumWorld) -> None:
        super().__init__(Web3(), "simulated", clock=lambda: world.now)
        self._world = world

    def _read(self, which: int | str | HexBytes) -> tuple[int, str] | None:
        return int(self._world.now), "0x" + "1" * 64


class QuorumWorld:
    """Verifiers that want as many records as ``goal``. `run` returns when all living honest ones have them."""

    def __init__(
        self, seed: int, vices: Sequence[str], weather: Weather, *, size: int = 0, dead: int = 0, goal: int = 6
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.weather, self.goal = seed, weather, goal
        self.now, self.counter = 0.0, itertools.count()
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        names = tuple(f"v{number}" for number in range(len(vices)))
        self.verifiers = Verifiers(names, size or len(names) // 2 + 1)
        self.nodes = {name: Verifier(name, self._fresh(name), vice) for name, vice in zip(names, vices, strict=True)}
        honest = [node for node in self.nodes.values() if node.honest]
        for node in self.random.sample(honest, dead):
            node.dead, node.up = True, False
        self.certified: dict[int, set[str]] = {}
        for node in self.nodes.values():
            self._at(self.random.uniform(0.0, 1.0), lambda node=node: self._begin(node))
        living = [node for node in honest if not node.dead]
        for _ in range(weather.crashes):
            self._at(self.random.uniform(0.5, weather.until_s), lambda: self._crash(self.random.choice(living)))
        for _ in range(weather.partitions):
            self._at(self.random.uniform(0.5, weather.until_s), self._split)

    def _fresh(self, name: str, kept: voting.Kept | None = None, chain: Sequence[SignedRecord] = ()) -> voting.State:
        rules = voting.Rules(JOB, name, self.verifiers, silent_s=4.0, stuck_s=6.0)
        head = chain[-1].record.hash if chain else GENESIS
        return quorum.restore(rules, kept or voting.Kept(), len(chain), head, self.now)

    @property
    def living(self) -> list[Verifier]:
        return [node for node in self.nodes.values() if node.honest and not node.dead]

    def run(self, limit_s: float) -> None:
        while self.queue and self.now < limit_s and not self.finished():
            self.now, _, action = heapq.heappop(self.queue)
            action()

    def finished(self) -> bool:
        return self.now > self.weather.until_s and all(len(node.chain) >= self.goal for node in self.living)

    # ------------------------------------------------------------ time, processes, network

    def _at(self, delay_s: float, action: Callable[[], object]) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, next(self.counter), action))

    def _tick(self, node: Verifier, life: int) -> None:
        if node.life == life and not node.dead:
            self.feed(node, Tick())
            self._at(1.0, lambda: self._tick(node, life))

    def _begin(self, node: Verifier) -> None:
        self.feed(node, self._expected(node))
        self._tick(node, node.life)

    def _expected(self, node: Verifier) -> Expected:
        return Expected("record", RECORD_DUE_S if len(node.chain) < self.goal else math.inf)

    def kill(self, node: Verifier) -> None:
        """It never comes back."""
        node.dead, node.up = True, False

    def _crash(self, node: Verifier) -> None:
        node.up = False
        node.life += 1
        self._at(self.random.uniform(0.5, 20.0), lambda life=node.life: self._restart(node, life))

    def _restart(self, node: Verifier, life: int) -> None:
        if node.life == life and not node.dead:
            node.state, node.up = self._fresh(node.name, node.disk, node.chain), True
            self._begin(node)

    def _split(self) -> None:
        for node in self.nodes.values():
            node.group = self.random.randint(0, 1)
        self._at(self.random.uniform(2.0, 20.0), self._heal)

    def _heal(self) -> None:
        for node in self.nodes.values():
            node.group = 0

    def send(self, sender: Verifier, to: Verifier, message: Any) -> None:
        calm, weather = self.now > self.weather.until_s, self.weather
        for _ in range(1 if calm or self.random.random() >= weather.duplicate else 2):
            if calm or self.random.random() >= weather.loss:
                delay_s = self.random.uniform(0.001, 0.05 if calm else weather.delay_s_max)
                self._at(delay_s, lambda: self._arrive(sender, to, message))

    def _arrive(self, sender: Verifier, to: Verifier, message: Any) -> None:
        if sender.group != to.group or not to.up or not self._holds(sender, to, message):
            return
        if isinstance(message, tuple):
            self._take_records(to, message)
            return
        self.feed(to, message)
        if to.vice == "signs anything":
            self._sign(to, message)

    def _holds(self, sender: Verifier, to: Verifier, message: Any) -> bool:
        """What the shell checks of a message."""
        if isinstance(message, Standing | Proposal | Ballot) and message.node != sender.name:
            return False
        match message:
            case Standing():
                return message.lock is None or is_signed(message.lock, "prepare", self.verifiers)
            case Proposal():
                basis = message.basis
                return not basis.signatures or is_signed(basis, "prepare", self.verifiers)
            case Ballot():
                holder = to.state.rules.holder(message.vote.view)
                return not message.proposed or message.proposed == word(holder, message.vote)
            case Proven():
                return all(is_proof(proof) for proof in message.proofs)
            case _:
                return True

    # ------------------------------------------------------------ the shell of a verifier

    def feed(self, node: Verifier, message: Any) -> None:
        if not node.up:
            return
        node.state, effects = quorum.apply(node.state, message, self.now)
        if not node.honest and node.vice in ("forgets", "hides"):
            node.state = replace(node.state, kept=replace(node.state.kept, lock=None))
        node.disk = node.state.kept
        for effect in effects:
            self._carry_out(node, effect)
        wants = node.state.wanted is None and not node.state.done and node.state.height < self.goal
        if wants and node.vice != "idle" and voting.on_duty(node.state):
            self._want(node)

    def _want(self, node: Verifier) -> None:
        kind = {"no follower": BAD, "accepts falsely": FALSE}.get(node.vice, GOOD)
        body: Body = Begin("begin", kind, f"{self.random.getrandbits(256):064x}")
        if node.vice == "seals far off":
            body = Seal("seal", 0, (), (), "0" * 64, 1 << 48, (), node.name, ())
        record = Record(JOB, node.state.height, node.state.head, body)
        self.feed(node, Wanted(record, self._check_s(record)))

    def _check_s(self, record: Record) -> float:
        judges = record.height % 3 == 2 or (isinstance(record.body, Begin) and record.body.protocol == FALSE)
        return REPLAY_S if judges else 0.0

    def repeats(self, node: Verifier, height: int) -> bool:
        """Whether this verifier replays what the record of this height judges."""
        key = blake3(f"{self.seed} {node.name}".encode()).digest()
        return own_draw(key, JOB, share_ppm(self.verifiers))(height, 0)

    def _follows(self, node: Verifier, record: Record) -> bool:
        """What the shell finds of a record, as real ones do."""
        match record.body:
            case Seal() as seal:
                try:
                    asyncio.run(BlockChecks(SimulatedBlocks(self)).sealed(seal))
                except RefusedError:
                    return False
                return True
            case Begin(protocol=kind):
                return kind == GOOD or (kind == FALSE and not self.repeats(node, record.height))
            case _:
                return False

    def _carry_out(self, node: Verifier, effect: Any) -> None:
        match effect:
            case Say():
                self._say(node, effect.message)
            case Check():
                record = effect.record
                self._later(node, 0.0, Checking(record.hash, self._check_s(record)))
                replays_s = self._check_s(record) if node.honest and self.repeats(node, record.height) else 0.0
                takes_s = self.random.uniform(0.0, replays_s or 0.5)
                self._later(node, takes_s, Checked(record.hash, not node.honest or self._follows(node, record)))
            case Certified():
                self._keep(node, effect.signed)
                if node.honest and self.now <= self.weather.until_s and self.random.random() < self.weather.mute:
                    self._crash(node)
                    return
                for other in self.nodes.values() if node.vice != "hides" else ():
                    self.send(node, other, (effect.signed,))
            case Supply():
                self.send(node, self.nodes[effect.node], tuple(node.chain[effect.height : effect.height + 3]))

    def _later(self, node: Verifier, delay_s: float, message: Any) -> None:
        life = node.life
        self._at(delay_s, lambda: self.feed(node, message) if node.life == life else None)

    def _take_records(self, node: Verifier, records: tuple[SignedRecord, ...]) -> None:
        for signed in records:
            if is_signed(signed, "certify", self.verifiers):
                self._keep(node, signed)

    def _keep(self, node: Verifier, signed: SignedRecord) -> None:
        assert is_signed(signed, "certify", self.verifiers), "what is called certified is"
        self.certified.setdefault(signed.record.height, set()).add(signed.record.hash)
        head = node.chain[-1].record.hash if node.chain else GENESIS
        if (signed.record.height, signed.record.previous) == (len(node.chain), head):
            node.chain.append(signed)
            self._later(node, 0.0, self._expected(node))
            self._later(node, 0.0, Advanced(len(node.chain), signed.record.hash, signed.view))

    def _say(self, node: Verifier, message: Any) -> None:
        if node.vice == "hides" and isinstance(message, Proposal) and message.basis.signatures:
            message = replace(message, basis=replace(message.basis, signatures=()))
            message = self._other(node, message)
        match message:
            case Proposal() | Ballot():
                message = replace(message, signature=word(node.name, message.vote))
            case Standing() if node.vice == "runs ahead":
                message = replace(message, view=message.view + self.random.randint(0, 5))
        if node.vice == "silent" and self.random.random() < 0.9:
            return
        if node.vice != "two records":
            self._later(node, 0.0, message)
        if node.vice == "replays" and isinstance(message, Standing):
            for other, standing in itertools.product(self.nodes.values(), node.state.standings.values()):
                self.send(node, other, standing)
        hidden = node.vice == "hides" and isinstance(message, Ballot) and message.vote.phase == "certify"
        for other in self.nodes.values():
            if other is not node and not (hidden and other.name != min(set(self.nodes) - {node.name})):
                doubles = node.vice == "two records" and self.random.random() < 0.5
                self.send(node, other, self._other(node, message) if doubles else message)

    def _other(self, node: Verifier, message: Any) -> Any:
        """What the others hear from one that signs two records."""
        if not isinstance(message, Proposal) or message.basis.signatures:
            return message
        record = message.basis.record
        body = Begin("begin", GOOD, record.hash)
        basis = replace(message.basis, record=replace(record, body=body))
        message = replace(message, basis=basis)
        return replace(message, signature=word(node.name, message.vote))

    def _sign(self, node: Verifier, message: Any) -> None:
        if isinstance(message, Ballot) and self.nodes[message.node].vice == "signs anything":
            return  # each would answer the other's answer, without end
        if isinstance(message, Proposal | Ballot):
            for phase in ("prepare", "certify"):
                vote = replace(message.vote, phase=phase)
                said = message.signature if isinstance(message, Proposal) else message.proposed
                ballot = Ballot("ballot", node.name, vote, said if phase == "prepare" else "", word(node.name, vote))
                for other in self.nodes.values():
                    if other is not node:
                        self.send(node, other, ballot)
