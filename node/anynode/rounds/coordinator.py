"""The coordinator of a job as a pure state machine: ``apply(state, message, now) -> (state, effects)``.

What it decides goes into records, and its state is a fold over them: `absorb` is used alike when a record is
appended and when a restarted coordinator reads them back. What peers had sent but no record shows yet is sent again
by them, so nothing else need survive a crash but what was receipted (`recall`).

`taking_in` remembers what was said, `deciding` chooses what comes next in the round under way and `judging` in those
that have closed, `absorbing` folds the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from anynode.rounds.absorbing import absorb, forget_times
from anynode.rounds.coordination import Node, Phase, Rules, State, Step, audit_secret
from anynode.rounds.deciding import advance, fetch_key
from anynode.rounds.effects import Append
from anynode.rounds.events import (
    Answered,
    Appealed,
    AveragedAgain,
    CoordinatorMessage,
    Drawn,
    Failed,
    Heard,
    Recomputed,
    Replayed,
    Tick,
)
from anynode.rounds.judging import advance_appeals, advance_audits, average_key
from anynode.rounds.messages import Claim, Commitment, Join, Leave, Sync
from anynode.rounds.records import Record
from anynode.rounds.taking_in import take_back, take_in

SWARM_OF_MANY = 64
"""With more nodes than this, whether a round can open is looked at with the ticks and not with every sign of life."""

__all__ = [
    "Node",
    "Phase",
    "Rules",
    "State",
    "absorb",
    "apply",
    "audit_secret",
    "average_key",
    "carry_over",
    "fetch_key",
    "overhear",
    "recall",
    "restore",
]


def _awaits_replays(state: State) -> bool:
    """Whether newcomers' work is still being recomputed before the exchange; the next tick looks after the rest."""
    admitting = state.phase is Phase.ADMITTING and state.seal is not None and not state.audits
    found = state.findings
    return admitting and state.seal is not None and len(found.decided) < len(state.seal.commitments)


def restore(rules: Rules, records: Iterable[Record], now: float) -> State:
    """The state after these records: how a restarted coordinator goes on."""
    state = State(rules=rules)
    for record in records:
        state = forget_times(absorb(state, record, now))
    return replace(state, restored_at=now)


def overhear(state: State, claim: Claim, now: float) -> State:
    """The state of a follower that knows of ``claim``: it signs no verdict that passes it over. One that comes so late
    that it may not have reached whoever judges in time is not held against that one.
    """
    audit = state.audits.get(claim.round)
    if audit is None or not audit.overhears(now):
        return state
    after = audit.with_claim(claim)
    return replace(state, audits={**state.audits, claim.round: after}) if after.claims != audit.claims else state


def carry_over(state: State, before: State) -> State:
    """``state``, restored from records, with what was known ``before``: claims to its rounds, and the job's end."""
    audits = {
        round_: replace(audit, claims=before.audits[round_].claims) if round_ in before.audits else audit
        for round_, audit in state.audits.items()
    }
    return replace(state, audits=audits, ended=before.ended)


def recall(state: State, commitments: Iterable[Commitment], now: float) -> State:
    """``state``, restored from records, with the commitments to its open round that were receipted before, also those
    of a version of AnyNode that cannot be replayed here any more.
    """
    for commitment in commitments:
        state = take_back(state, commitment, now)
    return state


def apply(state: State, message: CoordinatorMessage, now: float) -> Step:
    """Take in one message or event, then go on as far as possible."""
    state, effects = take_in(state, message, now)
    # A sign of life decides nothing but whether a round can open, and thousands of members give one every second.
    if isinstance(message, Join | Sync) and (state.phase is not Phase.WAITING or len(state.nodes) > SWARM_OF_MANY):
        return state, effects
    if isinstance(message, Replayed) and message.outcome != "rejected" and _awaits_replays(state):
        return state, effects
    events = Tick | Drawn | Replayed | AveragedAgain | Answered | Recomputed | Failed | Leave | Appealed | Heard
    audits = isinstance(message, events)
    while True:
        state, more = advance_audits(state, now) if audits else (state, [])
        if audits and not more:
            state, more = advance_appeals(state, now)
        if not more:
            state, more = advance(state, now)
        effects += more
        if not more:
            return state, effects
        audits = audits or any(isinstance(effect, Append) for effect in more)
