"""What a member's shell waits for, and the names under which its core waits for the shell."""

from __future__ import annotations

from anynode.rounds import member
from anynode.rounds.driver import Driver
from anynode.rounds.effects import Apply, Deliver, FetchState, MemberEffect, Reduce, StartWork
from anynode.rounds.events import MemberMessage

MemberDriver = Driver[member.State, MemberMessage, MemberEffect]


def has_seal(state: member.State, round_: int) -> bool:
    """Whether the core knows the seal of ``round_``, or the round is over."""
    return state.open is not None and (
        state.open.round > round_ or (state.open.round == round_ and state.seal is not None)
    )


def is_over(state: member.State) -> bool:
    """The job has finished and been judged, and its last state is here, or this node has no further part in it."""
    return state.over


def failure_key(effect: MemberEffect) -> str:
    """The name under which the core waits for this effect; see `member.py`."""
    match effect:
        case StartWork():
            return f"work {effect.open.round}"
        case Deliver():
            return member.delivery_key(effect)
        case Reduce():
            return f"reduce {effect.chunk} {effect.assign.attempt}"
        case Apply():
            return f"apply {effect.result.round}"
        case FetchState():
            return f"state {effect.state_round}"
        case _:
            return ""
