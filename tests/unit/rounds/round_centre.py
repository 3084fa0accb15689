"""A coordinator's core in a test that is its network, clock and shell."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from round_actors import PEER_ID, START

from anynode.rounds.coordinator import Phase, Rules, State, apply, audit_secret
from anynode.rounds.course import Assign, Open
from anynode.rounds.effects import (
    Append,
    CoordinatorEffect,
    GetBeacon,
    GetRates,
)
from anynode.rounds.events import Applied, AuditRates, Beacon, CoordinatorMessage, Drawn, Replayed, ResultFetched, Tick
from anynode.rounds.messages import Average, ChunkDone, Commitment, Join, StateReport, Sync
from anynode.rounds.records import Record
from anynode_contracts.canonical import hash_hex

E = TypeVar("E")
RATE_PPM = 300_000
NAMES = [f"0x{number:040d}" for number in range(1, 6)]
ALICE, BOB, CAROL, DAVE = NAMES[:4]
RULES = Rules(
    job="a" * 64,
    state_root=START,
    rounds=5,
    inner_steps_min=4,
    inner_steps_max=4,
    newcomer_steps=4,
    batch_size=2,
    refresh_rounds=2,
    chunks=2,
    chunks_on_refresh=4,
    audit_key=b"k" * 32,
    members_min=2,
    work_s=20,
    exchange_s=10,
    alive_s=6.0,
)


def root_of(*parts: object) -> str:
    return hash_hex(repr(parts).encode())


def replayed(round_: int, slot: int, wrong: bool = False, again: bool = False) -> Replayed:
    """What an exact replay says of a slot."""
    if wrong:
        return Replayed(round_, slot, "rejected", "exact", "differs", again, proof=root_of("proof", round_, slot))
    return Replayed(round_, slot, "accepted", "exact", "equal", again)


class Centre:
    """A coordinator's core with its records; the test is network, clock and shell."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.now = 0.0
        self.state = State(rules)
        self.records: list[Record] = []
        self.effects: list[CoordinatorEffect] = []
        self.height = 100

    def feed(self, message: CoordinatorMessage) -> list[CoordinatorEffect]:
        self.state, self.effects = apply(self.state, message, self.now)
        self.records += [effect.record for effect in self.effects if isinstance(effect, Append)]
        return self.effects

    def feed_until_still(self, *messages: CoordinatorMessage) -> None:
        """Feed, and answer every question for the chain at once."""
        for message in messages:
            asked = [effect for effect in self.feed(message) if isinstance(effect, GetBeacon | GetRates)]
            for effect in asked:
                if isinstance(effect, GetRates):
                    self.feed_until_still(AuditRates(effect.open.round, (RATE_PPM,) * len(effect.open.members)))
                else:
                    self.height += 10
                    self.feed_until_still(Beacon(effect.round, f"0x{self.height:064x}", self.height + 2))

    def newest(self, kind: type[E]) -> E:
        return next(record.body for record in reversed(self.records) if isinstance(record.body, kind))

    def count(self, kind: type) -> int:
        return sum(isinstance(record.body, kind) for record in self.records)

    def pick(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def hear(self, *names: str, held: int | None = None) -> None:
        """These nodes are alive now."""
        round_ = self.state.round if held is None else held
        self.feed_until_still(*(Sync("sync", name, self.state.height, round_) for name in names), Tick())

    def join(self, *names: str) -> None:
        self.feed_until_still(*(Join("join", name, PEER_ID, "class", "1", True, False) for name in names))
        self.hear(*names)

    def commitment(self, name: str, **changes: object) -> Commitment:
        opened = self.newest(Open)
        slot = next((member.slot for member in opened.members if member.node == name), 0)
        good = Commitment(
            "commitment", name, opened.round, slot, 4, 8, 2, root_of(name, opened.round), root_of("trace"), "class", "1"
        )
        return replace(good, **changes)  # type: ignore[arg-type]

    def commit(self, *names: str) -> None:
        self.feed_until_still(*(self.commitment(name) for name in names))

    def replay(self, *rejected: str) -> None:
        """The verifier recomputes everything that this round asks for; these differ."""
        opened = self.newest(Open)
        for member in opened.members:
            wrong = member.node in rejected
            for again in (False, True)[: 1 + wrong]:
                self.feed_until_still(replayed(opened.round, member.slot, wrong, again))

    def done(self, chunk: int, senders: tuple[int, ...] | None = None) -> ChunkDone:
        assign, opened = self.newest(Assign), self.newest(Open)
        slot = next(item.slot for item in assign.reducers if item.chunk == chunk)
        who = assign.accepted if senders is None else senders
        node = opened.members[slot].node
        average = Average(chunk, who, root_of(chunk, who))
        return ChunkDone("chunk_done", node, opened.round, assign.attempt, slot, (average,))

    def exchange(self) -> None:
        for item in self.newest(Assign).reducers:
            done = self.done(item.chunk)
            self.feed_until_still(done, ResultFetched(done, readable=True))

    def close(self, *reporters: str) -> None:
        round_ = self.state.round
        root = root_of("state", round_ + 1)
        self.feed_until_still(Applied(round_, root))
        self.feed_until_still(*(StateReport("state_report", name, round_, root) for name in reporters))

    def judge(self, round_: int, *drawn: int, rejected: tuple[int, ...] = ()) -> None:
        """The audit of a closed round, these slots drawn."""
        self.feed_until_still(Drawn(round_, audit_secret(RULES, round_), "0x", drawn))
        audit = self.state.audits.get(round_)
        for slot in audit.to_replay_left if audit else ():
            wrong = slot in rejected
            for again in (False, True)[: 1 + wrong]:
                self.feed_until_still(replayed(round_, slot, wrong, again))

    def whole_round(self, *names: str) -> None:
        self.commit(*names)
        if self.state.phase is Phase.ADMITTING:
            self.replay()
        self.exchange()
        self.close(*names)
        self.judge(self.state.round - 1)
        self.hear(*names)
