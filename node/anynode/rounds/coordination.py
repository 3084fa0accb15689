"""What a coordinator knows: the rules of a job, its nodes, and where its rounds stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from blake3 import blake3

from anynode.rounds import asking
from anynode.rounds.audits import Audit
from anynode.rounds.effects import CoordinatorEffect
from anynode.rounds.messages import Beacon, ChunkDone, Commitment, Replayed, StateReport
from anynode.rounds.quotas import Pace
from anynode.rounds.records import GENESIS, Assign, Open, Result, Seal
from anynode.rounds.table import Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the job and the network fix for all rounds. Times are in seconds of the coordinator's clock.

    A round has from ``inner_steps_min`` to ``inner_steps_max`` inner steps: one number, or a range in which the pace
    as measured decides; then the job ends at ``total_steps``. ``audit_key`` is secret: the audit secret of a round is
    derived from it. ``hardware`` is the class in which work can be replayed bit for bit; empty admits every class.
    ``samples_max`` is what the budget pays: the job ends before a round that it could not pay.
    """

    job: str
    state_root: str
    rounds: int
    inner_steps_min: int
    inner_steps_max: int
    newcomer_steps: int
    batch_size: int
    refresh_rounds: int
    chunks: int
    chunks_on_refresh: int
    audit_key: bytes
    publishes_moments: bool = True
    total_steps: int = 1 << 62
    samples_max: int = 1 << 62
    hardware: str = ""
    members_min: int = 1
    members_max: int = 1000
    work_s: int = 120
    exchange_s: int = 30
    alive_s: float = 15.0
    attempts_max: int = 5


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node. ``state_round``: the round whose start state it holds, -1 for none.

    ``pace`` and ``chunks_per_s``, how fast it works and reduces, are measured here and are in no record.
    """

    peer: str
    hardware: str
    code_version: str = ""
    reduces: bool = True
    seen_at: float = 0.0
    state_round: int = -1
    joined: bool = False
    proven: bool = False
    banned: str = ""
    pace: Pace = field(default_factory=Pace)
    chunks_per_s: float = 0.0


class Phase(Enum):
    """Where the current round stands."""

    WAITING = "waiting for members"
    WORKING = "working"
    ADMITTING = "admitting"
    EXCHANGING = "exchanging"
    APPLYING = "applying"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class State:
    """Everything the coordinator knows. ``round`` is the round under way, or the next to open.

    ``witnessed`` are the senders of a chunk whose delivery its witness has taken, ``omitting`` the chunks whose reducer
    has left out one of them. Measured, and so unknown (None) to a coordinator that read its records back:
    ``opened_at``, and ``idle_since``, when the work of the last round was done. ``idle_s`` is the moving average of
    what a round takes beside it.
    """

    rules: Rules
    phase: Phase = Phase.WAITING
    height: int = 0
    head: str = GENESIS
    round: int = 0
    state_root: str = ""
    steps: int = 0
    cursor: int = 0
    returned: tuple[tuple[int, int], ...] = ()
    has_moments: bool = False
    samples: int = 0
    nodes: Table[str, Node] = field(default_factory=Table)
    open: Open | None = None
    seal: Seal | None = None
    assign: Assign | None = None
    result: Result | None = None
    since: float = 0.0
    opened_at: float | None = None
    idle_since: float | None = None
    idle_s: float = 0.0
    beacon: Beacon | None = None
    commitments: Table[int, Commitment] = field(default_factory=Table)
    committed_at: Table[int, float] = field(default_factory=Table)
    replayed: Mapping[int, Replayed] = field(default_factory=dict)
    done: Mapping[int, ChunkDone] = field(default_factory=dict)
    fetched: frozenset[int] = frozenset()
    witnessed: Mapping[int, frozenset[int]] = field(default_factory=dict)
    omitting: frozenset[int] = frozenset()
    applied_root: str = ""
    reports: Table[str, StateReport] = field(default_factory=Table)
    audits: Mapping[int, Audit] = field(default_factory=dict)
    asked: Table[str, float] = field(default_factory=Table)


Step = tuple[State, list[CoordinatorEffect]]


def audit_secret(rules: Rules, round_: int) -> str:
    """The audit secret of a round, 64 hexadecimal digits, unknown to all but the coordinator until revealed."""
    return blake3(f"{rules.job} {round_}".encode(), key=rules.audit_key).hexdigest()


def alive(state: State, name: str, now: float) -> bool:
    """Whether a node has joined, has not left, and has been heard of lately."""
    node = state.nodes.get(name)
    return node is not None and node.joined and now - node.seen_at < state.rules.alive_s


def with_node(state: State, name: str, **changes: object) -> State:
    """The state with something changed about a node, if it is known."""
    node = state.nodes.get(name)
    if node is None:
        return state
    return replace(state, nodes=state.nodes.set(name, replace(node, **changes)))  # type: ignore[arg-type]


def ask(state: State, key: str, effect: CoordinatorEffect, now: float) -> Step:
    """Ask the shell for an effect, unless it is under way or resting after a failure."""
    if not asking.may_ask(state.asked, key, now):
        return state, []
    return replace(state, asked=asking.mark(state.asked, key)), [effect]


def present(value: T | None) -> T:
    """What the phase of the round implies to be there."""
    if value is None:
        raise AssertionError("the phase of the round does not fit its records")
    return value
