"""What the records have made of one node, counted by that node itself as the coordinator counts it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

from anynode.rounds.appeals import Rejection, Rejections, after_excision, after_ruling
from anynode.rounds.course import Assign, Open
from anynode.rounds.judgements import Correct, Ruling, Verdict
from anynode.rounds.reductions import after_reductions, unreadable_nodes
from anynode.rounds.standing import Standing, after_judgement, after_refusal, after_rejection, after_task
from anynode.rounds.table import Table


@dataclass(frozen=True, slots=True)
class OwnStanding:
    """How a node stands, and the rejections of its work, which a granted appeal takes back one by one. Who it is, is
    said with each record.
    """

    standing: Standing = field(default_factory=Standing)
    rejections: Rejections = field(default_factory=Table)

    def after_assign(self, node: str, opened: Open, slot: int | None, body: Assign) -> OwnStanding:
        """After the exchange of ``opened`` was assigned, in which the node has ``slot``, if any."""
        standing = self.standing
        for item in body.rejected:
            if item.slot == slot:
                standing = after_refusal(standing, item.reason)
        why = unreadable_nodes(opened, body).get(node) if body.unreadable else None
        return replace(self, standing=standing if why is None else after_rejection(standing, why))

    def after_verdict(self, node: str, body: Verdict) -> OwnStanding:
        """The node's work is found without reading all that was judged."""
        standing, rejections = self.standing, self.rejections
        place = bisect_left(body.judged, node, key=lambda item: item.node)
        for item in body.judged[place : place + 1]:
            if item.node == node:
                standing = after_judgement(standing, item)
                if item.rejected:
                    found = Rejection(item.node, item.slot, item.reason, item.proof)
                    rejections = rejections.set((body.round, node), found)
        standing = after_reductions({node: standing}, body).get(node, standing)
        for task in body.tasks:
            if task.auditor == node:
                standing = after_task(standing, task)
        return replace(self, standing=standing, rejections=rejections)

    def after_correction(self, node: str, body: Correct) -> OwnStanding:
        standing = self.standing
        for item in body.excised:
            if item.node == node:
                standing = after_excision(standing, self.rejections, item)
        return replace(self, standing=standing)

    def after_ruling(self, node: str, body: Ruling) -> OwnStanding:
        """A granted appeal opens the door again, unless something else stands against the node."""
        rejection = self.rejections.get((body.round, node))
        if body.node != node or rejection is None:
            return self
        ruled = self.rejections.set((body.round, node), replace(rejection, ruling=body))
        standing = after_ruling(self.standing, rejection, granted=body.granted)
        return replace(self, standing=standing, rejections=ruled)
