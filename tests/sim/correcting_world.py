"""A simulated swarm whose verifier now and then takes a slot out of a past round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from world import RULES, World
from world_cast import COORDINATOR, Peer, Role, Weather, digest

from anynode.rounds import coordinator, effects, events
from anynode.rounds.corrections import History, outcome, refusal, run_to, slots_by_round, totals
from anynode.rounds.judgements import Correct, CorrectedRound, Excision

ASK_AGAIN_S = 3.0


@dataclass(frozen=True)
class Wish:
    """Who is to be taken out, and how many of its latest pieces of work at most."""

    at_s: float
    member: int
    rounds: int = 1


class CorrectingWorld(World):
    """``wishes`` come true as soon as there is something to take out; who asks, asks again until it is recorded."""

    def __init__(
        self,
        seed: int,
        roles: Sequence[Role],
        weather: Weather,
        wishes: Sequence[Wish],
        rules: coordinator.Rules = RULES,
    ) -> None:
        super().__init__(seed, roles, weather, rules)
        for wish in wishes:
            self._at(wish.at_s, lambda wish=wish: self._ask(wish))

    @property
    def corrections(self) -> list[Correct]:
        return [record.body for record in self.records if isinstance(record.body, Correct)]

    def _ask(self, wish: Wish) -> None:
        centre = self.peers[COORDINATOR]
        name = self.members[wish.member].name
        assert isinstance(centre.state, coordinator.State)
        if any(item.node == name for body in self.corrections for item in body.excised) or self.finished():
            return
        if centre.up and (found := self._excise(name, wish.rounds)) is not None:
            self._feed(centre, found)
        self._at(ASK_AGAIN_S, lambda: self._ask(wish))

    def _excise(self, name: str, rounds: int) -> events.Excise | None:
        history = History.of(self.records)
        slots = [
            (number, place.slot)
            for number, past in history.rounds.items()
            for place in past.open.members
            if place.node == name and not refusal(history, number, place.slot)
        ]
        excised = tuple(Excision(number, slot, name, "its update differs") for number, slot in slots[-rounds:])
        if not excised:
            return None
        corrected = []
        for number, out in slots_by_round(excised).items():
            past = history.rounds[number]
            senders, steps = outcome(past, out)
            results = tuple(
                result if before == after else digest("reduced", chunk, number, after)
                for chunk, (before, after, result) in enumerate(
                    zip(past.senders(), senders, past.results, strict=False)
                )
            )
            corrected.append(CorrectedRound(number, results, steps))
        return events.Excise(excised, tuple(corrected))

    def _carry_out(self, peer: Peer, effect: object) -> None:
        if isinstance(effect, effects.MakeCorrection):
            self._correct(peer, effect)
        else:
            super()._carry_out(peer, effect)

    def _correct(self, peer: Peer, effect: effects.MakeCorrection) -> None:
        """The root is a function of the outer steps, so that a member that took others would be found out."""
        history = History.of(self.records)
        total = totals(history, effect.excised, effect.rounds)
        run: Any = run_to(history, effect.round, lambda _: True, {item.round: item for item in effect.rounds})
        body = Correct(
            kind="correct",
            round=effect.round,
            excised=effect.excised,
            rounds=effect.rounds,
            state_root=digest("corrected", run, total),
            steps=total.steps,
            returned=total.returned,
            has_moments=total.has_moments,
        )
        failed = events.Failed(f"correct {effect.round}")
        self._later(peer, self.random.uniform(0.1, 4.0), failed if self._fails() else events.Corrected(body))
