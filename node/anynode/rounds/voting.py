"""What one verifier knows of the agreement on the next record of a job, and what it has promised. Pure.

`quorum.py` says how that changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import ConfigDict

from anynode.rounds.ballots import Ballot, Effect, Owed, Proposal, Standing
from anynode.rounds.certificates import Verifiers
from anynode.rounds.records import GENESIS, Record, SignedRecord
from anynode.rounds.votes import Equivocation, Phase, Vote

PATIENCE_MAX = 16


def patience(failures: int) -> int:
    """How much longer one waits after so many failed views: all meet in one, and who needs longer gets it."""
    return min(PATIENCE_MAX, 1 << min(failures, PATIENCE_MAX))


@dataclass(frozen=True, slots=True)
class Rules:
    """Who takes part. ``silent_s``: a holder of the duty that is not heard for so long loses it; ``stuck_s``: so does
    one whose proposal is not certified in that time. Each failed view doubles both, so that all meet in one.
    """

    job: str
    me: str
    verifiers: Verifiers
    silent_s: float = 10.0
    stuck_s: float = 30.0

    def holder(self, view: int) -> str:
        """Who is on duty in a view: each job begins with another verifier."""
        addresses = self.verifiers.addresses
        return addresses[(int(self.job[:16], 16) + view) % len(addresses)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a verifier has promised. It must be on the disk before anything of it is said."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    view: int = 0
    prepared: Vote | None = None
    certified: Vote | None = None
    lock: SignedRecord | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What the holder of the duty owes within ``within_s`` of ``since``, and how many have failed to give it."""

    within_s: float
    since: float
    failures: int = 0

    def is_late(self, now: float) -> bool:
        return now - self.since > self.within_s * patience(self.failures)


@dataclass(frozen=True, slots=True)
class State:
    """What one verifier knows of the agreement on the record at ``height``, which follows ``head``.

    ``known`` are records of that height by their hashes; ``checks`` says which of them follow, None while that is not
    known yet, and ``check_s`` how long it may take to find out. ``done``: one of them is certified and on its way to
    the disk.
    """

    rules: Rules
    height: int = 0
    head: str = GENESIS
    kept: Kept = Kept()
    proofs: Mapping[str, Equivocation] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    proposal: Proposal | None = None
    ballots: Mapping[tuple[str, int, int, Phase], Ballot] = field(default_factory=dict)
    known: Mapping[str, Record] = field(default_factory=dict)
    checks: Mapping[str, bool | None] = field(default_factory=dict)
    check_s: Mapping[str, float] = field(default_factory=dict)
    wanted: Record | None = None
    done: bool = False
    failures: int = 0
    heard_at: float = 0.0
    proposed_at: float = math.inf
    dues: Mapping[Owed, Due] = field(default_factory=dict)

    @property
    def view(self) -> int:
        return self.kept.view

    @property
    def excluded(self) -> frozenset[str]:
        return frozenset(self.proofs)

    @property
    def needed(self) -> int:
        return self.rules.verifiers.needed(self.excluded)

    @property
    def alone(self) -> bool:
        """The only verifier of its network: its log is its word, and nobody else has to hear it."""
        return len(self.rules.verifiers.addresses) == 1


Step = tuple[State, list[Effect]]


def on_duty(state: State) -> bool:
    """Whether this verifier coordinates now: it is its turn, and enough have come to its view with their locks."""
    me = state.rules.me
    if state.rules.holder(state.view) != me or me in state.excluded:
        return False
    there = {me, *(node for node, item in state.standings.items() if item.view == state.view)}
    return len(there - state.excluded) >= state.needed


def has_forgotten(state: State) -> bool:
    """Whether a holder of the duty has proposed something before a restart: it must not propose anything else here."""
    mine = state.rules.holder(state.view) == state.rules.me
    return mine and state.proposal is None and has_voted(state, state.kept.prepared)


def has_voted(state: State, vote: Vote | None) -> bool:
    """Whether this is a vote on the next record, in this view."""
    return vote is not None and (vote.height, vote.view) == (state.height, state.view)


def under_check_s(state: State) -> float:
    """How long others may take to check what is proposed. Whoever has found that it does not follow does not wait."""
    if state.proposal is None:
        return 0.0
    digest = state.proposal.basis.record.hash
    return 0.0 if state.checks.get(digest) is False else state.check_s.get(digest, 0.0)


def own_standing(state: State) -> Standing:
    """Where this verifier stands, as it tells the others."""
    return Standing("standing", state.rules.me, state.view, state.height, state.kept.lock)


def next_view(state: State, view: int, now: float, *, failures: int = 1) -> State:
    """The state in a later view, after so many that have failed."""
    dues = {what: replace(due, failures=due.failures + failures) for what, due in state.dues.items()}
    later = fresh_view(state, replace(state.kept, view=view), now)
    return replace(later, failures=state.failures + failures, dues=renewed(dues, now))


def fresh_view(state: State, kept: Kept, now: float) -> State:
    """The state with what was promised now, in a view of which nothing has been heard."""
    return replace(state, kept=kept, proposal=None, proposed_at=math.inf, heard_at=now)


def renewed(dues: Mapping[Owed, Due], now: float) -> dict[Owed, Due]:
    """What is owed, as somebody owes it who begins now."""
    return {what: replace(due, since=now) for what, due in dues.items()}


def lock_on(state: State, lock: SignedRecord) -> State:
    """The record that was prepared in the latest view is the only one that may still be certified."""
    mine = state.kept.lock
    if mine is not None and mine.view >= lock.view:
        return state
    known = {**state.known, lock.record.hash: lock.record}
    return replace(state, kept=replace(state.kept, lock=lock), known=known)
