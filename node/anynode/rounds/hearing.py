"""What a coordinator makes of appeals: so many wait, each is heard once. Pure."""

from __future__ import annotations

from dataclasses import replace

from anynode.rounds.appeals import APPEALS_MAX, refusal
from anynode.rounds.coordination import State
from anynode.rounds.events import Appealed, Heard
from anynode.rounds.standing import Standing


def take_in_appeal(state: State, message: Appealed) -> State:
    """Remember an appeal that is to be heard."""
    appeal = message.appeal
    key = appeal.round, appeal.node
    node = state.nodes.get(appeal.node)
    standing = node.standing if node is not None else Standing()
    if key in state.appeals or len(state.appeals) >= APPEALS_MAX:
        return state
    if refusal(state.rejections, appeal, appeal.round, standing):
        return state
    return replace(state, appeals={**state.appeals, key: appeal})


def take_in_ruling(state: State, message: Heard) -> State:
    """Remember what a hearing came to, until its record is made."""
    key = message.ruling.round, message.ruling.node
    return replace(state, ruling=message.ruling) if key in state.appeals else state


def hearing_key(round_: int, node: str) -> str:
    """The name under which a hearing is waited for."""
    return f"hear {round_} {node}"
