"""What a member tells the person at its terminal, and what records mean to it in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anynode.rounds.course import Close, Finish, Open
from anynode.rounds.judgements import Correct, Verdict
from anynode.rounds.records import Body


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for the person at the terminal: ``kind`` names it, ``text`` says it."""

    kind: str
    text: str


Notify = Callable[[Notice], None]


def notices_of(body: Body, node: str) -> list[Notice]:
    """What is to be said of a record to the owner of ``node``."""
    match body:
        case Open():
            slot = next((item.slot for item in body.members if item.node == node), None)
            place = (
                "no place for this node yet" if slot is None else f"slot {slot}, {body.members[slot].quota_steps} steps"
            )
            return [Notice("round", f"round {body.round} opens with {len(body.members)} members: {place}")]
        case Close():
            return [Notice("close", f"round {body.round} closes, state {body.state_root[:16]}…")]
        case Correct():
            words = f"round {body.round} takes a fraud out of the model, state {body.state_root[:16]}…"
            return [Notice("correct", words)]
        case Verdict():
            return [
                Notice(item.outcome, f"round {body.round}: work {item.outcome}: {item.reason}")
                for item in body.judged
                if item.node == node
            ]
        case Finish():
            why = ": its deadline on the chain has passed, or its owner has cancelled it" if body.ended else ""
            return [Notice("finish", f"the job has finished after {body.rounds} rounds{why}")]
        case _:
            return []
