"""A reducer that adds wrongly, and gives nobody the one contribution that would show it: its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from false_reducing import FalselyReduced
from purse import VERIFIER_INDEX, Purse
from signed_world import DOMAIN

from anynode.rounds import effects, events
from anynode.rounds.judgements import Verdict
from anynode_contracts.errors import RefusedError
from anynode_verifier.credits import judged_rounds, round_credits
from anynode_verifier.lineage import follow

ATTACK = Attack(
    "a reducer withholds what would show its wrong sum",
    "A reducer that also sends adds wrongly, and then gives nobody its own contribution, which only it holds.",
    "caught",
)


def test_who_goes_on_to_work_and_does_not_give_it_is_out(purse: Purse, expect: Expect) -> None:
    """As if it had been averaged again: no pay for reducing, and what was held back is lost."""
    world = FalselyReduced("poisons", rounds=16, seed=5)
    world.run_to_its_end("withheld")
    assert all(item.accepted for body in world.verdicts for item in body.judged if item.node != world.traitor)
    withheld = [item for body in world.verdicts for item in body.reductions if item.outcome == "withheld"]
    assert not reducing_wei(world), "void or withheld, nothing that it reduced was paid"
    paid_wei, slashed_wei = purse.of(world)
    assert slashed_wei > 0
    expect(Finding("caught", f"{len(withheld)} chunks withheld while it went on to work", paid_wei, slashed_wei))


class Absent(FalselyReduced):
    """The traitor is gone when it is first asked for what it has averaged: for good, or its process has just died."""

    def __init__(self, vice: str, *, for_good: bool) -> None:
        super().__init__(vice, rounds=16, seed=5)
        self.for_good, self.asked = for_good, False

    def _average_again(self, effect: effects.AverageAgain) -> events.AveragedAgain:
        members, drawn = effect.open.members, set(effect.chunks)
        reducers = {members[entry.reducer].node for entry in effect.result.chunks if entry.chunk in drawn}
        if not self.asked and self.traitor in reducers:
            self.asked = True
            (self._leave if self.for_good else self._crash)(self.peers[self.traitor])
        return super()._average_again(effect)

    def judged_to_the_end(self) -> set[str]:
        self.run(1_500.0)
        assert self.finished() and self.asked
        follow(self.records, self.job, DOMAIN)
        return {item.outcome for body in self.verdicts for item in body.reductions}


@pytest.mark.parametrize("vice", ["poisons", ""])
def test_who_has_gone_is_not_accused_and_not_paid_for_those_chunks(vice: str) -> None:
    """Nobody can tell the two apart: a reducer that dies loses no more than the pay for what nobody can look into."""
    world = Absent(vice, for_good=True)
    assert world.judged_to_the_end() == {"void"}
    assert not any(world.traitor in round_.rejected for round_ in judged_rounds(world.records))
    assert not reducing_wei(world)
    place, verdict = next(
        (place, record.body)
        for place, record in enumerate(world.records)
        if isinstance(record.body, Verdict) and record.body.reductions
    )
    lie = replace(verdict, reductions=tuple(replace(item, outcome="withheld") for item in verdict.reductions))
    with pytest.raises(RefusedError, match="may have gone"):
        follow([*world.records[:place], replace(world.records[place], body=lie)], world.job, DOMAIN)


def test_who_comes_back_in_time_has_lost_nothing() -> None:
    """An honest reducer that is dead when it is asked gives what it has kept when it is back."""
    assert Absent("", for_good=False).judged_to_the_end() == set()


def reducing_wei(world: FalselyReduced) -> int:
    """What the traitor earned for reducing in the rounds in which it was blamed."""
    indices = {name: index for index, name in enumerate(world.accounts, 1)}
    return sum(
        item.amount_wei
        for round_ in judged_rounds(world.records)
        if world.cheats_in(world.traitor, round_.open.round)
        for item in round_credits(world.job, round_, indices, VERIFIER_INDEX)
        if item.kind == "reducing" and item.node_index == indices[world.traitor]
    )
