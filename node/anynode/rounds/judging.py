"""What a coordinator does next about rounds that have closed: their audits and verdicts, then appeals. Pure."""

from __future__ import annotations

from dataclasses import replace

from anynode.rounds.absorbing import append
from anynode.rounds.audits import Audit, verdict_of
from anynode.rounds.coordination import Phase, State, Step, ask, next_worked_in
from anynode.rounds.effects import AverageAgain, DrawAudits, Hear
from anynode.rounds.giving import ASK_PAUSE_S, ASKED_ROUNDS, GIVE_S, LOOKS_MIN, is_settled
from anynode.rounds.hearing import hearing_key


def average_key(effect: AverageAgain) -> str:
    """The name under which chunks averaged again are waited for."""
    return f"average {effect.open.round} {effect.look}"


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
        again = audit.to_average
        if again is not None and not (again.look and _asked_enough(state, audit, now)):
            asked, effects = _average(state, audit, again, now)
            if effects:
                return asked, effects
        elif not to_ask and not audit.awaits_claims(now):
            return append(state, verdict_of(audit, audit.drawn, state.seals), now)
    return state, []


def _average(state: State, audit: Audit, again: AverageAgain, now: float) -> Step:
    """Have chunks averaged again; those that nobody gave after a pause."""
    if again.look and now < audit.looked_at + ASK_PAUSE_S:
        return state, []
    asked, effects = ask(state, average_key(again), again, now)
    if not effects:
        return state, []
    audits = {**asked.audits, again.open.round: replace(audit, asked_from=next_worked_in(state))}
    return replace(asked, audits=audits), effects


def _asked_enough(state: State, audit: Audit, now: float) -> bool:
    """Whether what nobody has given is waited for no longer: reducers were asked for it often enough, and have had
    rounds to give it in, or there are none to come.
    """
    opened = audit.open
    longest_s = 2 * ASKED_ROUNDS * (opened.work_s + opened.exchange_s)
    over = state.phase is Phase.FINISHED or now >= audit.closed_at + longest_s
    settled = over or is_settled(opened.round, state.seals)
    return settled and audit.looks >= LOOKS_MIN and now >= audit.closed_at + GIVE_S


def advance_appeals(state: State, now: float) -> Step:
    """Appeals are heard one at a time, behind the audits that wait; what has been heard becomes a record."""
    if state.ruling is not None:
        return append(state, state.ruling, now)
    for appeal in state.appeals.values():
        return ask(state, hearing_key(appeal.round, appeal.node), Hear(appeal), now)
    return state, []
