"""What a coordinator knows: the rules of a job, its nodes, and where its rounds stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from blake3 import blake3

from anynode.rounds import asking
from anynode.rounds.appeals import Appeal, Rejections
from anynode.rounds.audits import Audit, Findings
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.effects import CoordinatorEffect
from anynode.rounds.events import Beacon, Corrected, Excise
from anynode.rounds.judgements import Ruling
from anynode.rounds.messages import ChunkDone, Commitment, StateReport
from anynode.rounds.quotas import Pace
from anynode.rounds.records import GENESIS
from anynode.rounds.standing import Standing
from anynode.rounds.table import Table
from anynode_contracts.errors import InvariantError

T = TypeVar("T")

RETURN_S = 3.0
"""So long one waits for members that may come back at any moment, though others could work without them."""


Witnessed = Mapping[int, Mapping[int, int]]
"""By chunk, the senders for whom a witness has spoken, and its slot."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the job and the network fix for all rounds. Times are in seconds of the coordinator's clock.

    A round has from ``inner_steps_min`` to ``inner_steps_max`` inner steps: one number, or a range in which the pace
    as measured decides; then the job ends at ``total_steps``. Quotas, commitments and ``newcomer_steps`` count shares
    of ``batch_size`` samples, ``parts`` to an inner step: in gradient mode a slow member has fewer than one step's.
    ``audit_key`` is secret: the audit secret of a round is derived from it. ``hardware`` are the classes whose work can
    be audited here; none of them admits every class. ``samples_max`` is what the budget pays: the job ends before a
    round that it could not pay. ``sealer`` is this coordinator, ``sign_nothing(round, slots)`` its word on
    the slots of which it seals nothing (`words.py`). ``thresholds``: see `course.Open`. ``code_version`` is
    the one whose work can be replayed bit by bit here; empty: any.
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
    parts: int = 1
    total_steps: int = 1 << 62
    samples_max: int = 1 << 62
    hardware: frozenset[str] = frozenset()
    members_min: int = 1
    members_max: int = 1000
    work_s: int = 120
    exchange_s: int = 30
    alive_s: float = 15.0
    attempts_max: int = 5
    sealer: str = ""
    thresholds: str = ""
    code_version: str = ""
    sign_nothing: Callable[[int, tuple[int, ...]], tuple[str, ...]] = lambda _, slots: ("",) * len(slots)

    def replays(self, code_version: str) -> bool:
        """Whether work of this version of AnyNode can be replayed here."""
        return self.code_version in ("", code_version)


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node. ``state_round``: the round whose start state it holds, -1 for none. ``code_version``:
    as it said when it joined, or of its last work; empty if neither is known.

    ``gone_at``: when its connection closed, None since it was heard of again. ``pace`` and ``chunks_per_s``, how fast
    it works and reduces, are measured here and are in no record; ``paced_in`` and ``measured_in`` are the rounds that
    say so.
    """

    peer: str
    hardware: str
    code_version: str = ""
    reduces: bool = True
    audits: bool = False
    seen_at: float = 0.0
    gone_at: float | None = None
    state_round: int = -1
    joined: bool = False
    standing: Standing = field(default_factory=Standing)
    pace: Pace = field(default_factory=Pace)
    paced_in: int = -1
    chunks_per_s: float = 0.0
    measured_in: int = -1

    @property
    def proven(self) -> bool:
        return self.standing.proven

    @property
    def banned(self) -> str:
        return self.standing.banned


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

    ``witnessed`` are the senders of a chunk whose delivery a witness has taken, with its slot, ``omitting`` the chunks
    whose reducer has left out one of them, ``unreadable`` what a slot has signed that is no average, ``come_back`` the
    slots whose members have joined again since the round opened. ``excise`` is what is to be taken out of the model
    before the next round opens, ``corrected`` what that gives. ``seals`` are those of the newest rounds.

    Measured, and so unknown (None) to a coordinator that read its records back: ``opened_at``, and ``idle_since``, when
    the work of the last round was done. ``idle_s`` is the moving average of what a round takes beside it, ``round_s``
    that from opening to close, and ``replay_steps_per_s`` that of how fast work can be replayed (0: not measured).
    ``restored_at`` is when it read them back, None for one that did not.
    ``appeals`` wait to be heard; ``ruling`` is what the first of them has come to. ``ended``: the job is over on the
    chain.
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
    assigns: tuple[Assign, ...] = ()
    result: Result | None = None
    since: float = 0.0
    opened_at: float | None = None
    idle_since: float | None = None
    idle_s: float = 0.0
    restored_at: float | None = None
    round_s: float = 0.0
    replay_steps_per_s: float = 0.0
    beacon: Beacon | None = None
    commitments: Table[int, Commitment] = field(default_factory=Table)
    committed_at: Table[int, float] = field(default_factory=Table)
    come_back: frozenset[int] = frozenset()
    rates_ppm: tuple[int, ...] = ()
    findings: Findings = field(default_factory=Findings)
    done: Mapping[int, ChunkDone] = field(default_factory=dict)
    fetched: frozenset[int] = frozenset()
    witnessed: Witnessed = field(default_factory=dict)
    omitting: frozenset[int] = frozenset()
    unreadable: Mapping[int, ChunkDone] = field(default_factory=dict)
    applied_root: str = ""
    reports: Table[str, StateReport] = field(default_factory=Table)
    audits: Mapping[int, Audit] = field(default_factory=dict)
    seals: tuple[Seal, ...] = ()
    asked: Table[str, float] = field(default_factory=Table)
    excise: Excise | None = None
    corrected: Corrected | None = None
    ended: bool = False
    rejections: Rejections = field(default_factory=Table)
    appeals: Mapping[tuple[int, str], Appeal] = field(default_factory=dict)
    ruling: Ruling | None = None


Step = tuple[State, list[CoordinatorEffect]]


def audit_secret(rules: Rules, round_: int) -> str:
    """The audit secret of a round, 64 hexadecimal digits, unknown to all but the coordinator until revealed."""
    return blake3(f"{rules.job} {round_}".encode(), key=rules.audit_key).hexdigest()


def alive(state: State, name: str, now: float) -> bool:
    """Whether a node has joined, has not left, and has been heard of lately."""
    node = state.nodes.get(name)
    return node is not None and node.joined and now < lost_at(state, node)


def lost_at(state: State, node: Node) -> float:
    """When a node that has joined was lost, or will be if nothing more is heard of it."""
    silent_at = node.seen_at + state.rules.alive_s
    return silent_at if node.gone_at is None else min(node.gone_at, silent_at)


def next_worked_in(state: State) -> int:
    """The round that members work in now; if they do not, the one that they will work in next."""
    return state.round + (state.phase in (Phase.ADMITTING, Phase.EXCHANGING, Phase.APPLYING))


def last_worked_in(state: State) -> int:
    """The round that members work in now; if they do not, the one that they have worked in last."""
    return state.round - (state.phase in (Phase.WAITING, Phase.FINISHED))


def unheard(state: State, node: Node) -> bool:
    """Whether a node is known from records only: since this coordinator read them back nothing was heard of it."""
    return state.restored_at is not None and node.seen_at <= state.restored_at


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
        raise InvariantError("the phase of the round does not fit its records")
    return value
