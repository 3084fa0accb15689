"""A simulated swarm with auditors that err about some nodes, and rejected workers that all appeal, cheats too."""

from __future__ import annotations

from world import World
from world_cast import COORDINATOR, Peer

from anynode.rounds import coordinator, effects, events
from anynode.rounds.appeals import Appeal
from anynode.rounds.judgements import Ruling, Verdict
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing

ASK_AGAIN_S = 5.0
MISTAKEN = f"0x{77:040d}"


class AppealingWorld(World):
    """``accused``: honest nodes whose work of round ``errs`` two replays call wrong, because the auditor is broken. Who
    is rejected appeals as soon as the verdict is in, and says so again and again, whatever comes of it.
    """

    accused: frozenset[str] = frozenset()
    errs = 0
    heard = 0

    def signed_appeal(self, node: str, round_: int) -> Appeal:
        return Appeal("appeal", node, round_)

    @property
    def rulings(self) -> list[Ruling]:
        return [record.body for record in self.records if isinstance(record.body, Ruling)]

    def standing(self, node: str) -> Standing:
        centre = self.peers[COORDINATOR].state
        assert isinstance(centre, coordinator.State)
        return centre.nodes[node].standing

    def finished(self) -> bool:
        centre = self.peers[COORDINATOR].state
        assert isinstance(centre, coordinator.State)
        rejected = {key for key, item in centre.rejections.items() if item.proof}
        ruled = {(item.round, item.node) for item in self.rulings}
        return super().finished() and not centre.appeals and rejected <= ruled

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        node = effect.open.members[effect.slot].node
        if node in self.accused and effect.open.round == self.errs:
            return events.Replayed(
                effect.open.round, effect.slot, "rejected", "exact", "differs", effect.again, proof="ab" * 32
            )
        return super()._replay(effect)

    def _append(self, record: Record) -> None:
        super()._append(record)
        if isinstance(record.body, Ruling) and record.body.granted:
            self._crash(self.peers[record.body.node])  # its owner starts it again
        if isinstance(record.body, Verdict):
            for item in record.body.judged:
                if item.rejected:
                    self._appeal_again(item.node, record.body.round)

    def _appeal_again(self, node: str, round_: int) -> None:
        self._feed(self.peers[COORDINATOR], events.Appealed(self.signed_appeal(node, round_)))
        if any((item.round, item.node) == (round_, node) for item in self.rulings) and self.now > 400.0:
            return
        self._at(ASK_AGAIN_S, lambda: self._appeal_again(node, round_))

    def _carry_out(self, peer: Peer, effect: object) -> None:
        if isinstance(effect, effects.Hear):
            self._later(peer, self.random.uniform(0.5, 4.0), self._hearing(effect.appeal))
        else:
            super()._carry_out(peer, effect)

    def honest_in(self, node: str, round_: int) -> bool:
        return not self.peers[node].cheats

    def _hearing(self, appeal: Appeal) -> object:
        if self._fails():
            return events.Failed(f"hear {appeal.round} {appeal.node}")
        self.heard += 1
        honest = self.honest_in(appeal.node, appeal.round)
        centre = self.peers[COORDINATOR].state
        assert isinstance(centre, coordinator.State)
        return events.Heard(
            Ruling(
                kind="ruling",
                round=appeal.round,
                slot=centre.rejections[appeal.round, appeal.node].slot,
                node=appeal.node,
                appeal=appeal.signature,
                heard=True,
                granted=honest,
                reason="replayed with equal bits" if honest else "differs",
                mistaken=MISTAKEN if honest else "",
            )
        )
