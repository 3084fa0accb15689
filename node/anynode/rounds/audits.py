"""What is still to be audited of a closed round, and the judgement once it has been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from anynode.rounds.audit_secrets import segment_seed
from anynode.rounds.claims import blamed, claimed_of, fault_of, leaves_out, merged, weightiest
from anynode.rounds.course import Assign, Open, Reason, Result, Seal
from anynode.rounds.effects import AskAuditor, AverageAgain, Recompute, Replay
from anynode.rounds.enquiries import Enquiry
from anynode.rounds.events import Answered, AveragedAgain, Drawn, Recomputed, Replayed
from anynode.rounds.giving import withholds
from anynode.rounds.judgements import CLAIMS_MAX, Claimed, Judged, Outcome, ReductionJudged, Task, Verdict
from anynode.rounds.messages import RECEIPTS_MAX, Claim

CLAIM_S = 15.0
"""So long after its close a verdict waits for those whom a result leaves out, should they hold a receipt."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What replays have found of a round's slots. ``suspended`` is work in which a first replay has found a difference:
    it is neither accepted nor accused until a second, independent one has ``decided``.
    """

    decided: Mapping[int, Replayed] = field(default_factory=dict)
    suspended: Mapping[int, Replayed] = field(default_factory=dict)

    def with_replay(self, item: Replayed) -> Findings:
        """Only a difference in the bits that a second replay confirms rejects; two that disagree decide for the worker.
        What is only out of its tolerance, and what nobody can replay, is void.
        """
        if item.slot in self.decided or item.again != (item.slot in self.suspended):
            return self
        if item.outcome == "rejected" and not item.again:
            return replace(self, suspended={**self.suspended, item.slot: item})
        if item.outcome == "rejected" and item.evidence != "exact":
            item = replace(item, outcome="void")
        suspended = {slot: first for slot, first in self.suspended.items() if slot != item.slot}
        return Findings({**self.decided, item.slot: item}, suspended)

    def to_ask(self, opened: Open, seal: Seal, slots: Iterable[int], seed: str = "") -> dict[str, Replay]:
        """The replays that are still needed to decide on these slots, with the names under which they are asked for.
        ``seed`` draws their segments.
        """
        left = (slot for slot in slots if slot not in self.decided)
        replays = (Replay(opened, seal, slot, slot in self.suspended, seed) for slot in left)
        return {replay_key(effect): effect for effect in replays}


def replay_key(effect: Replay) -> str:
    """The name under which a replay is waited for."""
    return f"replay {effect.open.round} {effect.slot}" + (" again" if effect.again else "")


@dataclass(frozen=True, slots=True)
class Audit:
    """A closed round on its way to its verdict. ``looks``: how often its chunks were averaged again, for the last time
    at ``looked_at``. What nobody had given is asked for from the work of round ``asked_from`` on, and was ``in_vain``
    through that of these rounds.
    """

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    drawn: Drawn | None = None
    findings: Findings = field(default_factory=Findings)
    averaged: AveragedAgain | None = None
    looks: int = 0
    looked_at: float = 0.0
    asked_from: int = -1
    in_vain: frozenset[int] = frozenset()
    assigns: tuple[Assign, ...] = ()
    closed_at: float = 0.0
    claims: Mapping[int, tuple[Claimed, ...]] = field(default_factory=dict)
    enquiries: Mapping[int, Enquiry] = field(default_factory=dict)

    def with_draw(self, drawn: Drawn) -> Audit:
        """What the draw names is to be replayed, some of it by other members."""
        committed = {item.slot: item for item in self.seal.commitments}
        enquiries = {plan.slot: Enquiry(plan, committed[plan.slot]) for plan in drawn.plans}
        return replace(self, drawn=drawn, enquiries=enquiries)

    def with_task(self, message: Answered | Recomputed) -> Audit:
        """What has come of an auditor's task; when it is over, what it shows of the work."""
        before = self.enquiries.get(message.slot)
        if before is None or not before.awaits:
            return self
        after = before.answered(message) if isinstance(message, Answered) else before.recomputed(message)
        findings = self.findings if after.finding is None else self.findings.with_replay(after.finding)
        return replace(self, enquiries={**self.enquiries, message.slot: after}, findings=findings)

    def to_ask(self) -> dict[str, Replay | AskAuditor | Recompute]:
        """What is still needed for the verdict, by name. A slot's own replay waits for the task on it."""
        asked = (enquiry.to_ask(self.open, self.seal) for enquiry in self.enquiries.values())
        wanted: dict[str, Replay | AskAuditor | Recompute] = dict(item for item in asked if item is not None)
        waiting = {slot for slot, enquiry in self.enquiries.items() if enquiry.awaits and not enquiry.is_decoy}
        slots = (slot for slot in self.to_replay if slot not in waiting)
        seed = segment_seed(self.drawn.secret, self.drawn.block_hash) if self.drawn else ""
        return wanted | self.findings.to_ask(self.open, self.seal, slots, seed)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(enquiry.task(self.open) for _, enquiry in sorted(self.enquiries.items()))

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

    def awaits_claims(self, now: float) -> bool:
        """Whether somebody whom the result leaves out may still claim to have delivered."""
        if now >= self.closed_at + CLAIM_S:
            return False
        said = {(chunk, item.slot) for items in self.claims.values() for item in items for chunk in item.chunks}
        return not leaves_out(self.assign, self.result) <= said

    def with_claim(self, claim: Claim) -> Audit:
        """The audit that remembers what was claimed, if it shows anything."""
        if claim.slot >= len(self.open.members) or self.open.members[claim.slot].node != claim.node:
            return self
        new = claimed_of(claim, self.open)
        if any(item.slot != claim.slot or fault_of(item, self.open, self.assigns, self.result) for item in new):
            return self
        mine = merged(self.claims.get(claim.slot, ()), new, self.result, RECEIPTS_MAX)
        return replace(self, claims={**self.claims, claim.slot: mine})

    def overhears(self, now: float) -> bool:
        """Whether a claim that reaches a follower now reaches in time whoever judges the round."""
        return now < self.closed_at + CLAIM_S / 2

    @property
    def withheld(self) -> tuple[int, ...]:
        """The drawn chunks that nobody has given so far."""
        return tuple(item.chunk for item in self.averaged.found if item.outcome == "withheld") if self.averaged else ()

    @property
    def to_average(self) -> AverageAgain | None:
        """What is still to be averaged again."""
        if self.drawn is None:
            return None
        chunks = self.drawn.chunks if self.averaged is None else self.withheld
        return AverageAgain(self.open, self.seal, self.assign, self.result, chunks, self.looks) if chunks else None

    def with_averages(self, message: AveragedAgain, worked_in: int, now: float) -> Audit:
        """What a further look has found; ``worked_in`` is the round that members work in now, or have worked in last. A
        reducer that keeps silent makes a look last: so it counts for each round that was worked in meanwhile.
        """
        found = (
            {item.chunk: item for item in self.averaged.found if item.outcome != "withheld"} if self.averaged else {}
        )
        found |= {item.chunk: item for item in message.found}
        averaged = AveragedAgain(message.round, tuple(found[chunk] for chunk in sorted(found)))
        audit = replace(self, averaged=averaged, looks=self.looks + 1, looked_at=now)
        if not audit.withheld or self.asked_from < 0:
            return audit
        return replace(audit, in_vain=self.in_vain.union(range(self.asked_from, worked_in + 1)))

    def settled(self, item: ReductionJudged, seals: Sequence[Seal]) -> ReductionJudged:
        """What becomes of a chunk that is not as it must be; ``seals`` are those of the newest rounds."""
        if item.outcome != "withheld" or withholds(item.node, self.open.round, seals, self.in_vain):
            return item
        return replace(item, outcome="void")

    @property
    def for_others(self) -> tuple[int, ...]:
        """What other members may be asked to replay: a round without a result could not pay them."""
        return self.to_replay if self.result.chunks else ()

    @property
    def to_replay_left(self) -> tuple[int, ...]:
        return tuple(slot for slot in self.to_replay if slot not in self.findings.decided)


def verdict_of(audit: Audit, drawn: Drawn, seals: Sequence[Seal] = ()) -> Verdict:
    """The verdict on a round, where ``seals`` are the newest ones. Raises ``KeyError`` while replays are missing."""
    claims = weightiest(audit.claims, CLAIMS_MAX)
    found = {item.chunk: audit.settled(item, seals) for item in audit.averaged.found} if audit.averaged else {}
    proven = {chunk: item for chunk, item in found.items() if item.outcome == "rejected"}
    reductions = found | blamed(claims, audit.open, audit.result) | proven
    return Verdict(
        kind="verdict",
        round=drawn.round,
        secret=drawn.secret,
        block_hash=drawn.block_hash,
        judged=judge(audit),
        reductions=tuple(reductions[chunk] for chunk in sorted(reductions)),
        tasks=audit.tasks,
        claims=claims,
    )


def judge(audit: Audit) -> tuple[Judged, ...]:
    """One judgement for each commitment of the round. Raises ``KeyError`` while replays are missing."""
    rejected = {item.slot: item for item in audit.assign.rejected}
    admitted, to_replay = set(audit.admitted), set(audit.to_replay)
    judged = []
    for item in audit.seal.commitments:
        if item.slot in admitted:
            outcome: Outcome = "rejected" if item.slot in rejected else "accepted"
            why = rejected.get(item.slot, Reason(item.slot, "replayed for admission: equal"))
            judged.append(Judged(item.slot, item.node, outcome, "admission", why.reason, why.proof))
        elif item.slot in to_replay:
            replayed = audit.findings.decided[item.slot]
            judged.append(
                Judged(
                    item.slot,
                    item.node,
                    replayed.outcome,
                    replayed.evidence,
                    replayed.reason,
                    replayed.proof,
                    replayed.residuals,
                    replayed.segments,
                )
            )
        else:
            judged.append(Judged(item.slot, item.node, "accepted", "none", "not drawn for audit"))
    return tuple(judged)
