"""The coordinator of a job as a pure state machine: ``apply(state, message, now) -> (state, effects)``.

What it decides goes into records, and its state is a fold over them: `absorb` is used alike when a record is
appended and when a restarted coordinator reads them back. What peers had sent but no record shows yet is sent again
by them, so nothing else need survive a crash.

`taking_in` remembers what was said, `deciding` chooses what comes next, `absorbing` folds the records.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.rounds.absorbing import absorb, forget_times
from anynode.rounds.coordination import Node, Phase, Rules, State, Step, audit_secret
from anynode.rounds.deciding import advance, advance_audits, fetch_key
from anynode.rounds.effects import Append
from anynode.rounds.messages import CoordinatorMessage, Drawn, Failed, Join, Leave, Replayed, Sync, Tick
from anynode.rounds.records import Record
from anynode.rounds.taking_in import take_in

SWARM_OF_MANY = 64
"""With more nodes than this, whether a round can open is looked at with the ticks and not with every sign of life."""

__all__ = ["Node", "Phase", "Rules", "State", "absorb", "apply", "audit_secret", "fetch_key", "restore"]


def _awaits_replays(state: State) -> bool:
    """Whether newcomers' work is still being recomputed before the exchange; the next tick looks after the rest."""
    admitting = state.phase is Phase.ADMITTING and state.seal is not None and not state.audits
    return admitting and state.seal is not None and len(state.replayed) < len(state.seal.commitments)


def restore(rules: Rules, records: Iterable[Record], now: float) -> State:
    """The state after these records: how a restarted coordinator goes on."""
    state = State(rules=rules)
    for record in records:
        state = forget_times(absorb(state, record, now))
    return state


def apply(state: State, message: CoordinatorMessage, now: float) -> Step:
    """Take in one message or event, then go on as far as possible."""
    state, effects = take_in(state, message, now)
    # A sign of life decides nothing but whether a round can open, and thousands of members give one every second.
    if isinstance(message, Join | Sync) and (state.phase is not Phase.WAITING or len(state.nodes) > SWARM_OF_MANY):
        return state, effects
    if isinstance(message, Replayed) and _awaits_replays(state):
        return state, effects
    audits = isinstance(message, Tick | Drawn | Replayed | Failed | Leave)
    while True:
        state, more = advance_audits(state, now) if audits else (state, [])
        if not more:
            state, more = advance(state, now)
        effects += more
        if not more:
            return state, effects
        audits = audits or any(isinstance(effect, Append) for effect in more)
