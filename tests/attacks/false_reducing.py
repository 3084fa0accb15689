"""A swarm in which one member works honestly and reduces falsely, and what becomes of it."""

from __future__ import annotations

from signed_world import DOMAIN, SignedWorld, key, make_job
from world_cast import Role

from anynode.rounds.course import Open
from anynode.rounds.judgements import Verdict
from anynode.rounds.reductions import rejected_reducers
from anynode_verifier.lineage import follow


class FalselyReduced(SignedWorld):
    """The last of four members has this ``vice`` whenever it reduces."""

    def __init__(self, vice: str, rounds: int, seed: int) -> None:
        super().__init__(make_job(rounds=rounds), seed, members=4)
        self.traitor = key("member 3").address
        self.peers[self.traitor].role = Role(vice=vice)

    @property
    def verdicts(self) -> list[Verdict]:
        return [record.body for record in self.records if isinstance(record.body, Verdict)]

    def cheats_in(self, node: str, round_: int) -> bool:
        """Whether the verdict on the round blames ``node`` for a chunk."""
        return any(
            item.node == node for verdict in self.verdicts if verdict.round == round_ for item in verdict.reductions
        )

    def run_to_its_end(self, outcome: str = "rejected") -> None:
        """The job ends, its records hold, and only the traitor is blamed, which has no place from then on."""
        self.run(1_500.0)
        assert self.finished()
        follow(self.records, self.job, DOMAIN)
        blamed = [item for verdict in self.verdicts for item in verdict.reductions]
        assert {item.node for item in blamed} == {self.traitor}
        assert {item.outcome for item in blamed} - {"void"} == {outcome}
        bodies = [record.body for record in self.records]
        found_at = next(
            place for place, body in enumerate(bodies) if isinstance(body, Verdict) and rejected_reducers(body)
        )
        later = [body for body in bodies[found_at:] if isinstance(body, Open)]
        assert later and all(self.traitor not in {member.node for member in body.members} for body in later)
