"""A reducer that takes nothing from a sender, to leave it out."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from world import RULES, World, results
from world_cast import Role, Weather

from anynode.rounds import messages
from anynode.rounds.course import Assign

ATTACK = Attack(
    "a reducer omits a sender that it gives no receipt",
    "A reducer takes no chunks from one sender, so that they are in none of its averages and are not paid.",
    "prevented",
)


class Deaf(World):
    """The last member takes nothing from the first."""

    refused = 0

    def _arrive(self, sender: str, to: str, message: object) -> None:
        victim, deaf = self.members[0].name, self.members[-1].name
        if isinstance(message, messages.Delivery) and message.node == victim and to == deaf:
            self.refused += 1
            return
        super()._arrive(sender, to, message)


def test_a_witness_takes_it_instead(expect: Expect) -> None:
    """Also where the sender is the reducer's own witness: then a further one."""
    averages = refused = 0
    for seed in range(8):
        world = Deaf(seed, [Role(), Role(), Role(), Role(vice="deaf")], Weather(), RULES)
        world.run(2_000.0)
        assert world.finished(), f"seed {seed}"
        bodies = [record.body for record in world.records]
        assigns = {(body.round, body.attempt): body for body in bodies if isinstance(body, Assign)}
        for result in results(world):
            assert result.chunks, f"seed {seed}: round {result.round} is void"
            for entry in result.chunks:
                assign = assigns[result.round, entry.attempt]
                averages += 1
                assert entry.senders == assign.accepted, f"seed {seed}, round {result.round}, chunk {entry.chunk}"
        refused += world.refused
    assert refused
    expect(Finding("prevented", f"{averages} averages; all of them hold every sender"))
