"""A peer's update copied before the seal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from attack import Attack, Expect, Finding
from world import World
from world_cast import COORDINATOR, Role, Weather, digest

from anynode.rounds.course import Seal
from anynode.rounds.events import WorkDone

ATTACK = Attack(
    "a peer's update, before the seal",
    "A member reads along everything that it is sent, to commit to what a peer has trained.",
    "prevented",
)


class Overheard(World):
    """Notes which updates a member could have known before the round in which they were made was sealed."""

    def __init__(self) -> None:
        self.roots: dict[str, str] = {}
        self.early: list[tuple[str, str]] = []
        self.sent = 0
        super().__init__(3, [Role()] * 4, Weather(delay_s_max=0.5))

    def _feed(self, peer: Any, message: object) -> None:
        if isinstance(message, WorkDone):
            self.roots[message.update_root] = peer.name
        if peer.name != COORDINATOR and not isinstance(message, WorkDone):
            sealed = {
                item.update_root
                for record in self.records
                if isinstance(record.body, Seal)
                for item in record.body.commitments
            }
            text = repr(message)
            for root, maker in self.roots.items():
                hashes = [root, *(digest(root, chunk) for chunk in range(self.rules.chunks_on_refresh))]
                told = any(word in text for word in hashes)
                self.sent += told
                if told and root not in sealed and maker != peer.name:
                    self.early.append((peer.name, root))
        super()._feed(peer, message)


def test_nothing_of_an_update_is_told_before_the_seal(expect: Expect) -> None:
    world = Overheard()
    world.run(600.0)
    assert world.finished() and world.sent > 20, asdict(world.weather)
    assert world.early == []
    expect(Finding("prevented", f"{len(world.roots)} updates, none told to a peer before it was sealed"))
