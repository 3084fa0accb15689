"""A simulated job in which the first member audits as it likes, and the last may cheat from some round on."""

from __future__ import annotations

from dataclasses import replace

from signed_world import DOMAIN, SignedWorld, key, make_job

from anynode.rounds import coordinator, effects, events
from anynode.rounds.judgements import Judged, Task, Verdict
from anynode_verifier.known_tasks import known_share_ppm
from anynode_verifier.lineage import follow

ROUNDS, MEMBERS = 14, 5


class Conspiracy(SignedWorld):
    """``auditor``: what the first member is like as an auditor; the others are honest. The last one's work is false
    from round ``betrays`` on.
    """

    def __init__(self, auditor: str, seed: int, betrays: int = ROUNDS) -> None:
        self.liar, self.cheat, self.betrays = key("member 0").address, key(f"member {MEMBERS - 1}").address, betrays
        kinds = (auditor, *("honest" for _ in range(MEMBERS - 1)))
        super().__init__(make_job(rounds=ROUNDS), seed, MEMBERS, auditors=kinds)

    @property
    def traitors(self) -> tuple[str, ...]:
        return (self.liar, self.cheat)

    def cheats_in(self, node: str, round_: int) -> bool:
        """Whether ``node`` has lied in a round: about its own work, or as an auditor of its friend's."""
        if node == self.cheat:
            return round_ >= self.betrays
        slots = {
            item.slot for item in self.verdict_on(round_).judged if item.node == self.cheat and round_ >= self.betrays
        }
        return any(task.auditor == node and task.slot in slots for task in self.verdict_on(round_).tasks)

    def verdict_on(self, round_: int) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.round == round_)

    def end(self) -> None:
        """Run to the end; the records follow from each other as an auditor of the chain sees them."""
        self.run(3_000.0)
        assert self.finished()
        follow(self.records, self.job, DOMAIN)

    def share_of(self, auditor: str, worker: str, steps: int) -> int:
        """As where all is held back that can be, from both."""
        return known_share_ppm(1, 33, 33)

    @property
    def verdicts(self) -> list[Verdict]:
        return [record.body for record in self.records if isinstance(record.body, Verdict)]

    def tasks(self, node: str) -> list[Task]:
        return [task for verdict in self.verdicts for task in verdict.tasks if task.auditor == node]

    def work(self, node: str) -> list[Judged]:
        return [item for verdict in self.verdicts for item in verdict.judged if item.node == node]

    def banned(self) -> dict[str, str]:
        """Who has been excluded, and why."""
        centre = self.peers["coordinator"].state
        assert isinstance(centre, coordinator.State)
        return {name: node.banned for name, node in centre.nodes.items() if node.banned}

    def _cheats_in(self, node: str, round_: int) -> None:
        peer = self.peers[node]
        peer.role = replace(peer.role, cheats=node == self.cheat and round_ >= self.betrays)

    def _work(self, peer: object, effect: effects.StartWork) -> None:
        self._cheats_in(effect.open.members[effect.slot].node, effect.open.round)
        super()._work(peer, effect)  # type: ignore[arg-type]

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        self._cheats_in(effect.open.members[effect.slot].node, effect.open.round)
        return super()._replay(effect)
