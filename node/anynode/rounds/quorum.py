"""How several verifiers agree on the next record of a job: ``apply(state, message, now) -> (state, effects)``.

One verifier is on duty in each view and proposes; enough prepare, then enough certify (docs/design.md, Quorum). The
job's view moves on when the holder of the duty is silent, stuck or proven to lie. A verifier that has seen a record
prepared is locked on it: it prepares another one only if that one was prepared in a later view. So a record that may
have been certified is never replaced, with up to ``2 * quorum - n - 1`` of n verifiers lying.
"""

from __future__ import annotations

import math
from dataclasses import replace

from anynode.rounds.ballots import (
    Advanced,
    Ballot,
    Certified,
    Check,
    Checked,
    Checking,
    Effect,
    Event,
    Expected,
    Proposal,
    Proven,
    Said,
    Say,
    Standing,
    Supply,
    Tick,
    Wanted,
)
from anynode.rounds.records import SignedRecord
from anynode.rounds.votes import Equivocation, Vote
from anynode.rounds.voting import (
    Due,
    Kept,
    Rules,
    State,
    Step,
    fresh_view,
    has_forgotten,
    has_voted,
    lock_on,
    next_view,
    on_duty,
    own_standing,
    patience,
    renewed,
    under_check_s,
)

HEIGHTS_KEPT = 8
VIEWS_AHEAD_MAX = 1024
BALLOTS_MAX = 64
"""Ballots of one verifier that are remembered; the oldest are forgotten."""


def restore(rules: Rules, kept: Kept, height: int, head: str, now: float) -> State:
    """The state of a verifier that has read back its promises and its chain."""
    lock = kept.lock if kept.lock is not None and kept.lock.record.height == height else None
    known = {lock.record.hash: lock.record} if lock else {}
    return State(rules, height, head, replace(kept, lock=lock), known=known, heard_at=now)


def apply(state: State, message: Said | Event, now: float) -> Step:
    """Take in one message or event, then go on as far as possible."""
    effects: list[Effect] = []
    match message:
        case Tick():
            state, effects = _tick(state, now)
        case Standing():
            state, effects = _standing(state, message, now)
        case Proposal():
            state, effects = _proposal(state, message, now)
        case Ballot():
            state, effects = _ballot(state, message)
        case Proven():
            state = replace(state, proofs={**{proof.signer: proof for proof in message.proofs}, **state.proofs})
        case Wanted():
            check_s = {**state.check_s, message.record.hash: message.check_s}
            state = replace(state, wanted=message.record, check_s=check_s)
        case Checking():
            state = replace(state, check_s={**state.check_s, message.record: message.check_s})
        case Checked():
            state = replace(state, checks={**state.checks, message.record: message.follows})
        case Advanced():
            state = _advanced(state, message, now)
        case Expected():
            state = replace(state, dues={**state.dues, message.what: Due(message.within_s, now)})
    while True:
        state, more = _advance(state, now)
        effects += more
        if not more:
            return state, effects


# ---------------------------------------------------------------- taking in


def _standing(state: State, standing: Standing, now: float) -> Step:
    known = state.standings.get(standing.node)
    if standing.node == state.rules.me or standing.view > state.view + VIEWS_AHEAD_MAX:
        return state, []
    if known is None or (standing.view, standing.height) >= (known.view, known.height):
        state = replace(state, standings={**state.standings, standing.node: standing})
    holder = state.rules.holder(state.view)
    if standing.node == holder and standing.view == state.view:
        state = replace(state, heard_at=now)
    lock = standing.lock
    if lock is not None and (lock.record.height, lock.record.previous) == (state.height, state.head):
        state = lock_on(state, lock)
    lags = standing.height < state.height and state.rules.me in (holder, _another(state, standing.node))
    return state, [Supply(standing.node, standing.height)] if lags else []


def _another(state: State, node: str) -> str:
    """Who helps the holder of the duty when it lags behind: the verifier after it."""
    addresses = state.rules.verifiers.addresses
    return addresses[(addresses.index(node) + 1) % len(addresses)]


def _proposal(state: State, proposal: Proposal, now: float) -> Step:
    """Taken only from the holder of the duty in this view, for the record that is next."""
    record = proposal.basis.record
    state, effects = _ballot(state, Ballot("ballot", proposal.node, proposal.vote, "", proposal.signature))
    fits = (
        proposal.view == state.view
        and proposal.node == state.rules.holder(state.view)
        and (record.height, record.previous) == (state.height, state.head)
    )
    if not fits or state.proposal is not None:
        return state, effects
    proposed_at = now if state.proposed_at == math.inf else state.proposed_at
    return replace(
        state, proposal=proposal, proposed_at=proposed_at, known={**state.known, record.hash: record}
    ), effects


def _ballot(state: State, ballot: Ballot) -> Step:
    """Remember a vote, and with it that of the holder on whose word it was cast. Two different ones are a proof."""
    vote = ballot.vote
    near = state.height - HEIGHTS_KEPT <= vote.height <= state.height and vote.view <= state.view + VIEWS_AHEAD_MAX
    if not near:
        return state, []
    effects: list[Effect] = []
    if ballot.proposed:
        holder = state.rules.holder(vote.view)
        state, effects = _ballot(state, Ballot("ballot", holder, vote, "", ballot.proposed))
    key = (ballot.node, vote.height, vote.view, vote.phase)
    known = state.ballots.get(key)
    if known is None:
        mine = [other for other in state.ballots if other[0] == ballot.node]
        kept = {other: item for other, item in state.ballots.items() if len(mine) < BALLOTS_MAX or other != min(mine)}
        return replace(state, ballots={**kept, key: ballot}), effects
    if known.vote == vote or ballot.node in state.proofs:
        return state, effects
    proof = Equivocation(
        job=state.rules.job,
        signer=ballot.node,
        height=vote.height,
        view=vote.view,
        phase=vote.phase,
        records=(known.vote.record, vote.record),
        signatures=(known.signature, ballot.signature),
    )
    return replace(state, proofs={**state.proofs, ballot.node: proof}), [*effects, Say(Proven("proven", (proof,)))]


def _advanced(state: State, done: Advanced, now: float) -> State:
    if done.height <= state.height:
        return state
    wanted = state.wanted if state.wanted is not None and state.wanted.previous == done.head else None
    ballots = {key: item for key, item in state.ballots.items() if key[1] >= done.height - HEIGHTS_KEPT}
    kept = replace(state.kept, view=max(state.view, done.view), lock=None)
    state = replace(state, height=done.height, head=done.head, wanted=wanted, ballots=ballots, known={}, checks={})
    kept_s = {wanted.hash: state.check_s[wanted.hash]} if wanted is not None else {}
    new = {what for what in state.dues if what == "record" or kept.view > state.view}
    dues = {**state.dues, **renewed({what: state.dues[what] for what in new}, now)}
    return replace(fresh_view(state, kept, now), done=False, failures=0, dues=dues, check_s=kept_s)


# ---------------------------------------------------------------- time


def _tick(state: State, now: float) -> Step:
    """Say again what the others may have missed, and move on when the holder of the duty does not."""
    if state.alone:
        return state, []
    if on_duty(state):
        state = replace(state, heard_at=now)
    times = patience(state.failures)
    ahead = {state.rules.me, *(node for node, item in state.standings.items() if item.view >= state.view)}
    late = (
        has_forgotten(state)
        or now - state.heard_at > state.rules.silent_s * times
        or now - state.proposed_at > (state.rules.stuck_s + under_check_s(state)) * times
        or any(due.is_late(now) for what, due in state.dues.items() if what != "record" or not under_check_s(state))
    )
    # Alone in its view, a verifier waits for the others: it would only run away from them.
    if late and len(ahead - state.excluded) >= state.needed:
        state = next_view(state, state.view + 1, now)
    effects: list[Effect] = [Say(own_standing(state))]
    if state.proofs:
        effects.append(Say(Proven("proven", tuple(state.proofs.values()))))
    proposal = state.proposal
    if proposal is not None and proposal.node == state.rules.me:
        effects.append(Say(proposal))
    elif proposal is not None and state.kept.prepared == proposal.vote:
        effects.append(Say(Ballot("ballot", state.rules.me, proposal.vote, proposal.signature)))
    if (vote := state.kept.certified) is not None and vote.height == state.height:
        effects.append(Say(Ballot("ballot", state.rules.me, vote)))
    return state, effects


# ---------------------------------------------------------------- going on


def _advance(state: State, now: float) -> Step:
    """One step; no effects when nothing can be done but wait."""
    for step in (_join, _check, _propose, _prepare, _certify, _finish):
        state, effects = step(state, now)
        if effects:
            return state, effects
    return state, []


def _join(state: State, now: float) -> Step:
    """Go to the view after one whose holder is proven to lie; or to the highest that so many others have reached that
    one of them must be honest and alive, or that with them there are enough.
    """
    moved, verifiers = state, state.rules.verifiers
    while moved.rules.holder(moved.view) in moved.excluded and len(moved.excluded) < len(verifiers.addresses):
        moved = next_view(moved, moved.view + 1, now, failures=0)
    enough = min(len(verifiers.addresses) - verifiers.quorum + 1, max(1, state.needed - 1))
    views = sorted((item.view for node, item in state.standings.items() if node not in state.excluded), reverse=True)
    if len(views) >= enough and views[enough - 1] > moved.view:
        moved = next_view(moved, views[enough - 1], now)
    return moved, [Say(own_standing(moved))] if moved.view > state.view else []


def _check(state: State, now: float) -> Step:
    """What is to be signed is checked first. What this verifier itself wants needs no check."""
    lock, proposal = state.kept.lock, state.proposal
    for record in (lock.record if lock else None, proposal.basis.record if proposal else None):
        if record is not None and record == state.wanted:
            state = replace(state, checks={**state.checks, record.hash: True})
        elif record is not None and record.hash not in state.checks:
            return replace(state, checks={**state.checks, record.hash: None}), [Check(record)]
    return state, []


def _propose(state: State, now: float) -> Step:
    """On duty: the record that may have been certified before, or else the one that is wanted."""
    lock, wanted = state.kept.lock, state.wanted
    if state.proposal is not None or state.done or not on_duty(state) or has_forgotten(state):
        return state, []
    if lock is not None:
        basis = lock
    elif wanted is not None and (wanted.height, wanted.previous) == (state.height, state.head):
        basis = SignedRecord(wanted, state.view, ())
    else:
        return state, []
    record = basis.record
    if lock is not None and not state.checks.get(record.hash):
        return state, []
    proposal = Proposal("proposal", state.rules.me, state.view, basis)
    vote = replace(proposal.vote, phase="certify") if state.alone else proposal.vote
    kept = replace(state.kept, certified=vote) if state.alone else replace(state.kept, prepared=vote)
    checks, known = {**state.checks, record.hash: True}, {**state.known, record.hash: record}
    state = replace(state, kept=kept, checks=checks, known=known, proposal=proposal, proposed_at=now)
    return state, [Say(Ballot("ballot", state.rules.me, vote) if state.alone else proposal)]


def _prepare(state: State, now: float) -> Step:
    """Prepare what the holder of the duty proposes, once in each view, unless another record may be certified."""
    proposal, lock = state.proposal, state.kept.lock
    if proposal is None or state.alone or not state.excluded.isdisjoint({state.rules.me, proposal.node}):
        return state, []
    record = proposal.basis.record
    if has_voted(state, state.kept.prepared) or not state.checks.get(record.hash):
        return state, []
    if lock is not None and lock.record.hash != record.hash:
        basis = proposal.basis
        if not basis.signatures or not lock.view <= basis.view < state.view:
            return state, []
    state = replace(state, kept=replace(state.kept, prepared=proposal.vote))
    return state, [Say(Ballot("ballot", state.rules.me, proposal.vote, proposal.signature))]


def _certify(state: State, now: float) -> Step:
    """Lock on what enough have prepared in this view, and say so."""
    if state.alone or state.rules.me in state.excluded:
        return state, []
    if state.proposal is not None and (prepared := _certificate(state, state.proposal.vote)) is not None:
        state = lock_on(state, prepared)
    lock = state.kept.lock
    if lock is None or lock.view != state.view or not state.checks.get(lock.record.hash):
        return state, []
    if has_voted(state, state.kept.certified):
        return state, []
    vote = Vote(state.height, state.view, "certify", lock.record.hash)
    state = replace(state, kept=replace(state.kept, certified=vote))
    return state, [Say(Ballot("ballot", state.rules.me, vote))]


def _finish(state: State, now: float) -> Step:
    """A record that enough have certified in one view, whichever it is, is the next of the chain."""
    if state.done:
        return state, []
    votes = {
        ballot.vote
        for (_, height, _, phase), ballot in state.ballots.items()
        if height == state.height and phase == "certify" and ballot.vote.record in state.known
    }
    for vote in sorted(votes, key=lambda vote: (vote.view, vote.record)):
        signed = _certificate(state, vote)
        if signed is not None:
            return replace(state, done=True), [Certified(signed)]
    return state, []


def _certificate(state: State, vote: Vote) -> SignedRecord | None:
    """The record that ``vote`` is for, with the signatures of all who have cast it, if they are enough."""
    signatures = tuple(
        state.ballots[key].signature
        for node in state.rules.verifiers.addresses
        if (key := (node, vote.height, vote.view, vote.phase)) in state.ballots
        and node not in state.excluded
        and state.ballots[key].vote == vote
    )
    if len(signatures) < state.needed or vote.record not in state.known:
        return None
    fewer = len(signatures) < state.rules.verifiers.quorum
    proofs = tuple(state.proofs[node] for node in sorted(state.proofs)) if fewer else ()
    return SignedRecord(state.known[vote.record], vote.view, signatures, proofs)
