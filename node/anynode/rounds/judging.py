"""What a coordinator does next about rounds that have closed: their audits and verdicts, then appeals. Pure."""

from __future__ import annotations

from anynode.rounds.absorbing import append
from anynode.rounds.audits import verdict_of
from anynode.rounds.coordination import State, Step, ask
from anynode.rounds.effects import AverageAgain, DrawAudits, Hear
from anynode.rounds.hearing import hearing_key


def average_key(effect: AverageAgain) -> str:
    """The name under which chunks averaged again are waited for."""
    return f"average {effect.open.round}"


def advance_audits(state: State, now: float) -> Step:
    """One step in the audits of closed rounds."""
    for round_, audit in state.audits.items():
        if audit.drawn is None:
            draw = DrawAudits(audit.open, audit.seal, audit.assign, audit.result, audit.candidates)
            asked, effects = ask(state, f"draw {round_}", draw, now)
            if effects:
                return asked, effects
            continue
        to_ask = audit.to_ask()
        for key, effect in to_ask.items():
            asked, effects = ask(state, key, effect, now)
            if effects:
                return asked, effects
        if (again := audit.to_average) is not None:
            asked, effects = ask(state, average_key(again), again, now)
            if effects:
                return asked, effects
        elif not to_ask and not audit.awaits_claims(now):
            return append(state, verdict_of(audit, audit.drawn), now)
    return state, []


def advance_appeals(state: State, now: float) -> Step:
    """Appeals are heard one at a time, behind the audits that wait; what has been heard becomes a record."""
    if state.ruling is not None:
        return append(state, state.ruling, now)
    for appeal in state.appeals.values():
        return ask(state, hearing_key(appeal.round, appeal.node), Hear(appeal), now)
    return state, []
