"""What the ledger gives for work with a verdict: simulated rounds, real records, the real treasury and book."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from bank import VERIFIER_INDEX, Bank
from false_reducing import FalselyReduced
from signed_world import SignedWorld, key, make_job

import unasked_network
from anynode.rounds import effects, events
from anynode_verifier.credits import judged_rounds, round_credits

NETWORK = unasked_network.NETWORK.model_copy(update={"held_back_limit_wei": 10**18})


class BetrayedWorld(SignedWorld):
    """The last member works honestly until round ``betrays`` and cheats from then on."""

    def __init__(self, betrays: int, rounds: int, seed: int, members: int = 4) -> None:
        self.traitor, self.betrays = key(f"member {members - 1}").address, betrays
        super().__init__(make_job(rounds=rounds), seed, members)

    def cheats_in(self, node: str, round_: int) -> bool:
        return node == self.traitor and round_ >= self.betrays

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        node = effect.open.members[effect.slot].node
        self.peers[node].role = type(self.peers[node].role)(cheats=self.cheats_in(node, effect.open.round))
        return super()._replay(effect)


class Purse:
    """Money after a job, booked by the real treasury into a real book below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._books = folder, 0

    def after_replays(self, *, accepted: bool) -> tuple[int, int]:
        """Paid and slashed in wei, of the work of a worker whose replays end so."""
        return (0, 0) if accepted else self._caught

    @cached_property
    def _caught(self) -> tuple[int, int]:
        world = BetrayedWorld(betrays=0, rounds=4, seed=11)
        world.run(600.0)
        assert world.finished()
        return self.of(world)

    def booked(self, world: SignedWorld) -> Bank:
        """The book when a job with appeals has come to its end. The caller closes it."""
        bank = self._bank(world)
        bank.finish(bank.account())
        return bank

    def of(self, world: BetrayedWorld | FalselyReduced) -> tuple[int, int]:
        """What was paid for the traitor's fraudulent work that was found out, and what it was slashed."""
        bank = self._bank(world)
        try:
            bank.treasury.advance([bank.account()])
            slashed_wei = bank.book.balances(bank.indices[world.traitor]).slashed_wei
        finally:
            bank.book.close()
        return self._paid_for_lies(world, bank.indices), slashed_wei

    def _bank(self, world: SignedWorld) -> Bank:
        """A new book in which the world's job is funded and its nodes are registered."""
        self._books += 1
        path = self._folder / f"book-{self._books}.sqlite"
        return Bank(path, world, NETWORK).fill(budget_wei=world.job.pay.budget_wei)

    @staticmethod
    def _paid_for_lies(world: BetrayedWorld | FalselyReduced, indices: dict[str, int]) -> int:
        """What the records credit the traitor with for the rounds in which it cheated, found out or not."""
        return sum(
            credit.amount_wei
            for round_ in judged_rounds(world.records)
            if world.cheats_in(world.traitor, round_.open.round)
            for credit in round_credits(
                world.job, round_, {node: indices[node] for node in round_.paid_nodes}, VERIFIER_INDEX
            )
            if credit.node_index == indices[world.traitor]
        )
