"""A member's core in a test that is its network, clock and shell."""

from __future__ import annotations

from typing import TypeVar

from round_actors import ALICE, BODIES, JOB, START, chain_of

from anynode.rounds import member
from anynode.rounds.course import Assign, Close, Open, Result, Seal
from anynode.rounds.effects import MemberEffect, Send
from anynode.rounds.events import MemberMessage, RecordsArrived, Tick, WorkDone
from anynode.rounds.records import Record

E = TypeVar("E")


def _body(kind: type[E]) -> E:
    """The body of this kind in the small round."""
    return next(body for body in BODIES if isinstance(body, kind))


OPEN, SEAL, ASSIGN, RESULT, CLOSE = _body(Open), _body(Seal), _body(Assign), _body(Result), _body(Close)
CHAIN = chain_of(*BODIES)
UPDATE, TRACE = "3" * 64, "4" * 64
WORK = WorkDone(0, START, 4, 8, 2, UPDATE, TRACE)


class Member:
    """A member's core; the test is network, clock and shell."""

    def __init__(self, node: str = ALICE, held: int = 0, root: str = START) -> None:
        me = member.Self(JOB, node, "peer", "class", "1")
        self.now = 0.0
        self.state = member.State(me, held_round=held, held_root=root)
        self.effects: list[MemberEffect] = []

    def feed(self, message: MemberMessage) -> list[MemberEffect]:
        self.state, self.effects = member.apply(self.state, message, self.now)
        return self.effects

    def records(self, *records: Record) -> list[MemberEffect]:
        return self.feed(RecordsArrived(records))

    def pick(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type[E]) -> list[E]:
        return [effect.message for effect in self.pick(Send) if isinstance(effect.message, kind)]

    def after(self, seconds: float) -> list[MemberEffect]:
        self.now += seconds
        return self.feed(Tick())
