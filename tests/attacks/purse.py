"""What the ledger gives for work with a verdict: simulated rounds, real records, the real treasury and book."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bank import VERIFIER_INDEX, Bank
from conspiracy import Conspiracy
from false_reducing import FalselyReduced
from signed_world import SignedWorld, key, make_job
from world_cast import digest

import unasked_network
from anynode.rounds import effects, events
from anynode.rounds.judgements import Outcome
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode.training.messages import ReplayVerdict
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


class JudgedWorld(BetrayedWorld):
    """A proven worker turns to lies, all its work is audited, and the two replays of a lie find ``outcomes``."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = tuple(outcomes)
        super().__init__(betrays=1, rounds=3, seed=11)

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        number, slot, again = effect.open.round, effect.slot, effect.again
        if not self.cheats_in(effect.open.members[slot].node, number):
            return super()._replay(effect)
        outcome = self.outcomes[again]
        proof = digest("proof", number, slot) if outcome == "rejected" else ""
        return events.Replayed(number, slot, outcome, "exact", "as it was found", again, proof=proof)

    def _carry_out(self, peer: object, effect: object) -> None:
        if isinstance(effect, effects.GetRates):
            rates = events.AuditRates(effect.open.round, (EVERY_TIME_PPM,) * len(effect.open.members))
            self._later(self.peers["coordinator"], 0.1, rates)
        else:
            super()._carry_out(peer, effect)  # type: ignore[arg-type]


class Purse:
    """Money after a job, booked by the real treasury into a real book below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._books = folder, 0
        self._after = cache(self._of_judged)

    def after_replays(self, first: ReplayVerdict, second: ReplayVerdict) -> tuple[int, int]:
        """Paid and slashed in wei, of the lies of a worker that was proven before, when replays find this of them."""
        return self._after(*("accepted" if verdict.accepted else "rejected" for verdict in (first, second)))

    def _of_judged(self, *outcomes: Outcome) -> tuple[int, int]:
        world = JudgedWorld(outcomes)
        world.run(600.0)
        assert world.finished()
        return self.of(world)

    def booked(self, world: SignedWorld) -> Bank:
        """The book when a job with appeals has come to its end. The caller closes it."""
        bank = self._bank(world)
        bank.finish(bank.account())
        return bank

    def of(self, world: BetrayedWorld | FalselyReduced | Conspiracy) -> tuple[int, int]:
        """What was paid to who lied, for the rounds of its lies, found out or not; and what it was slashed."""
        traitors = world.traitors if isinstance(world, Conspiracy) else (world.traitor,)
        bank = self._bank(world)
        try:
            bank.treasury.advance([bank.account()])
            slashed_wei = sum(bank.book.balances(bank.indices[name]).slashed_wei for name in traitors)
        finally:
            bank.book.close()
        return sum(self._paid_for_lies(world, name, bank.indices) for name in traitors), slashed_wei

    def _bank(self, world: SignedWorld) -> Bank:
        """A new book in which the world's job is funded and its nodes are registered."""
        self._books += 1
        path = self._folder / f"book-{self._books}.sqlite"
        return Bank(path, world, NETWORK).fill(budget_wei=world.job.pay.budget_wei)

    @staticmethod
    def _paid_for_lies(
        world: BetrayedWorld | FalselyReduced | Conspiracy, traitor: str, indices: dict[str, int]
    ) -> int:
        """What the records credit a traitor with for the rounds in which it cheated."""
        return sum(
            credit.amount_wei
            for round_ in judged_rounds(world.records)
            if world.cheats_in(traitor, round_.open.round)
            for credit in round_credits(
                world.job, round_, {node: indices[node] for node in round_.paid_nodes}, VERIFIER_INDEX
            )
            if credit.node_index == indices[traitor]
        )
