"""A reducer and witnesses that keep silent together."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from world import RULES, World, results
from world_cast import Role, Weather

from anynode.rounds import messages
from anynode.rounds.course import Assign, ChunkResult, Open, Result
from anynode.rounds.witnesses import WITNESSES_MAX, witnesses_of

ATTACK = Attack(
    "a reducer and its witness omit a sender together",
    "Members conspire: whichever of them reduces, and whichever is to be its witness, takes nothing from one sender.",
    "bounded",
)


MANY_CHUNKS = replace(RULES, members_min=6, chunks=12, chunks_on_refresh=12)


class Conspiracy(World):
    """The last ``conspirators`` members take nothing from the first."""

    conspirators = 2

    def _arrive(self, sender: str, to: str, message: object) -> None:
        victim, evil = self.members[0].name, {peer.name for peer in self.members[-self.conspirators :]}
        if not (isinstance(message, messages.Delivery) and message.node == victim and to in evil):
            super()._arrive(sender, to, message)


def left_out(world: Conspiracy) -> list[int]:
    """Of each chunk that lacks the victim: how many could speak for it, who all conspire, as its reducer does."""
    victim, evil = world.members[0].name, {peer.name for peer in world.members[-world.conspirators :]}
    bodies = [record.body for record in world.records]
    opens = {body.round: body for body in bodies if isinstance(body, Open)}
    assigns = {(body.round, body.attempt): body for body in bodies if isinstance(body, Assign)}
    found = []
    for result in results(world):
        nodes = {member.slot: member.node for member in opens[result.round].members}
        slot = next((slot for slot, node in nodes.items() if node == victim), None)
        for entry in _without(result, slot):
            assign = assigns[result.round, entry.attempt]
            if slot in assign.accepted:
                asked = witnesses_of(opens[result.round], assign, entry.reducer, slot or 0)
                assert {nodes[other] for other in (entry.reducer, *asked)} <= evil, "an honest witness spoke in vain"
                found.append(len(asked))
    return found


def _without(result: Result, slot: int | None) -> list[ChunkResult]:
    return [entry for entry in result.chunks if slot is not None and slot not in entry.senders]


def test_it_takes_a_reducer_and_three_witnesses(expect: Expect) -> None:
    """Or as many as there are: newcomers without weight do not reduce, and speak for nobody."""
    lost = []
    for conspirators, seeds in ((2, 4), (3, 3), (5, 2)):
        for seed in range(seeds):
            world = Conspiracy(seed, [Role() for _ in range(6)], Weather(), MANY_CHUNKS)
            world.conspirators = conspirators
            world.run(2_000.0)
            assert world.finished(), f"seed {seed}"
            witnesses = left_out(world)
            assert not witnesses or max(witnesses) < conspirators, f"seed {seed}"
            lost += witnesses
    assert WITNESSES_MAX in lost, "five of six leave out the sixth"
    expect(Finding("bounded", "it takes a reducer and three drawn witnesses: with a share f of all, f to the 4th"))
