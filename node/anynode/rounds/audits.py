"""What is still to be audited of a closed round, and the judgement once it has been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anynode.rounds.messages import Drawn, Replayed
from anynode.rounds.records import Assign, Judged, Open, Seal


@dataclass(frozen=True, slots=True)
class Audit:
    """A closed round on its way to its verdict."""

    open: Open
    seal: Seal
    assign: Assign
    drawn: Drawn | None = None
    replayed: Mapping[int, Replayed] = field(default_factory=dict)

    @property
    def admitted(self) -> tuple[int, ...]:
        """Slots that were replayed for admission, before the exchange: they need no second look."""
        newcomers = {member.slot for member in self.open.members if not member.proven}
        rejected = {item.slot for item in self.assign.rejected}
        return tuple(sorted((newcomers & set(self.assign.accepted)) | rejected))

    @property
    def candidates(self) -> tuple[int, ...]:
        """Committed slots among which the draw picks."""
        admitted = set(self.admitted)
        return tuple(item.slot for item in self.seal.commitments if item.slot not in admitted)

    @property
    def to_replay(self) -> tuple[int, ...]:
        """Drawn slots, and newcomers whose update had no weight: those are always audited."""
        drawn = set(self.drawn.slots) if self.drawn else set()
        return tuple(sorted((drawn & set(self.candidates)) | set(self.assign.weightless)))

    @property
    def to_replay_left(self) -> tuple[int, ...]:
        return tuple(slot for slot in self.to_replay if slot not in self.replayed)


def judge(audit: Audit) -> tuple[Judged, ...]:
    """One judgement for each commitment of the round. Raises ``KeyError`` while replays are missing."""
    rejected = {item.slot: item.reason for item in audit.assign.rejected}
    admitted, to_replay = set(audit.admitted), set(audit.to_replay)
    judged = []
    for item in audit.seal.commitments:
        if item.slot in admitted:
            reason = rejected.get(item.slot, "replayed for admission: equal")
            judged.append(Judged(item.slot, item.node, True, item.slot not in rejected, reason))
        elif item.slot in to_replay:
            replayed = audit.replayed[item.slot]
            judged.append(Judged(item.slot, item.node, True, replayed.accepted, replayed.reason))
        else:
            judged.append(Judged(item.slot, item.node, False, True, "not drawn for audit"))
    return tuple(judged)
