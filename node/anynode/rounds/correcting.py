"""How a coordinator puts a forward correction into the chain: between two rounds, in the place of one. Pure."""

from __future__ import annotations

from dataclasses import replace

from anynode.rounds.appeals import after_excision
from anynode.rounds.coordination import Phase, State, Step, alive, ask
from anynode.rounds.effects import MakeCorrection
from anynode.rounds.events import Corrected, Excise
from anynode.rounds.judgements import CORRECTION_ROUNDS_MAX, Correct


def take_in_excision(state: State, message: Excise) -> State:
    """Remember what is to be taken out; one correction at a time, and none once the job has finished."""
    if state.excise is not None or state.phase is Phase.FINISHED:
        return state
    return replace(state, excise=message)


def give_up(state: State) -> State:
    """The shell could not make the correction: rounds go on without it, and who asked for it may ask again."""
    key = correction_key(state.round)
    return replace(state, excise=None, corrected=None, asked=state.asked.drop([key]))


def is_about(excise: Excise, round_: int, slot: int) -> bool:
    """Whether this work is among what is to be taken out."""
    return any((item.round, item.slot) == (round_, slot) for item in excise.excised)


def take_in_correction(state: State, message: Corrected) -> State:
    """The state that the shell has computed, if it is for this place of the chain."""
    fits = state.excise is not None and state.phase is Phase.WAITING and message.body.round == state.round
    return replace(state, corrected=message) if fits else state


def advance_correction(state: State, excise: Excise, now: float) -> Step:
    """Ask the shell for the corrected state; a fraud that is too old by now is left in."""
    earliest = min(item.round for item in excise.excised)
    if state.round - earliest > CORRECTION_ROUNDS_MAX:
        return give_up(state), []
    effect = MakeCorrection(state.round, excise.excised, excise.rounds)
    return ask(state, correction_key(state.round), effect, now)


def correction_key(round_: int) -> str:
    """The name under which the correction that takes this number is waited for."""
    return f"correct {round_}"


def members_fetch(state: State, now: float) -> bool:
    """Whether members are still fetching a corrected state: the first that has it would open a round alone."""
    opened, rules = state.open, state.rules
    if opened is None or state.round == opened.round + 1 or now >= state.since + rules.exchange_s:
        return False
    return any(
        node.joined and not node.banned and node.state_round == state.round - 1 and alive(state, name, now)
        for name, node in state.nodes.items()
    )


def absorb_correct(state: State, body: Correct, now: float) -> State:
    """The next round opens from the corrected state, which every member has yet to fetch."""
    nodes = state.nodes
    for item in body.excised:
        node = nodes[item.node]
        nodes = nodes.set(item.node, replace(node, standing=after_excision(node.standing, state.rejections, item)))
    return replace(
        state,
        nodes=nodes,
        round=body.round + 1,
        state_root=body.state_root,
        steps=body.steps,
        returned=body.returned,
        has_moments=body.has_moments,
        since=now,
        idle_since=None,
        beacon=None,
        excise=None,
        corrected=None,
        asked=state.asked.drop([correction_key(body.round)]),
    )
