"""Audit tasks of other members: who is drawn to audit whom, and what follows from an answer. Pure.

An auditor is a proven member of the round that takes tasks, works in the class of the work and for another owner; which
one, the audit seed draws. Its word that work is what was committed to is taken, unless the task is one of those that
the verifier does itself as well, which no auditor can tell from the others. Every other answer is compared with the
verifier's own replay first, and nobody, worker or auditor, is found wrong by fewer than two replays that agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from blake3 import blake3

from anynode.rounds.course import Assign, Committed, Open, Seal
from anynode.rounds.effects import AskAuditor, Recompute
from anynode.rounds.events import Answered, Plan, Recomputed, Replayed
from anynode.rounds.judgements import Outcome, Redone, Task


def auditors_of(opened: Open, seal: Seal, assign: Assign, slot: int) -> tuple[int, ...]:
    """The slots of those who may audit the work of ``slot``, all of which have committed in the round themselves."""
    out = {item.slot for item in assign.rejected}
    work = opened.members[slot]
    present = (opened.members[item.slot] for item in seal.commitments if item.slot not in out)
    return tuple(
        member.slot
        for member in present
        if member.audits
        and member.proven
        and member.hardware == work.hardware
        and member.node != work.node
        and (member.owner or member.node) != (work.owner or work.node)
    )


def drawn_auditor(opened: Open, auditors: tuple[int, ...], slot: int, seed: str) -> int | None:
    """Whom ``seed`` draws to audit ``slot``: first one of the owners, then one of its members; none of nobody."""
    members = [opened.members[place] for place in auditors]
    owners = {member.owner or member.node for member in members}
    if not owners:
        return None
    owner = min(owners, key=lambda name: _ticket(seed, slot, name))
    own = [member for member in members if (member.owner or member.node) == owner]
    return min(own, key=lambda member: _ticket(seed, slot, member.node)).slot


def task_seed(secret: str, block_hash: str) -> str:
    """What draws auditors and keys tasks: nobody knows it before the work has been committed to."""
    return blake3(f"anynode tasks {secret} {block_hash}".encode()).hexdigest()


def task_key(seed: str, slot: int, auditor: str) -> str:
    """The key of one auditor's task, 64 hexadecimal digits: the proof of another auditor is worth nothing under it."""
    return _ticket(seed, slot, f"key {auditor}").hex()


def _ticket(seed: str, slot: int, name: str) -> bytes:
    return blake3(f"{seed} {slot} {name}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Enquiry:
    """One task on its way. ``own`` are the verifier's replays of it, the second in a fresh process."""

    plan: Plan
    committed: Committed
    answer: Answered | None = None
    own: tuple[Redone | None, ...] = ()

    @property
    def is_decoy(self) -> bool:
        """Whether less was asked for than was committed to: the answer says nothing of the work itself."""
        return self.plan.steps != self.committed.steps

    @property
    def confirms(self) -> bool:
        """Whether the answer is what was committed to."""
        return not self.is_decoy and self.answer is not None and self._is_claim(self.answer.redone)

    @property
    def awaits(self) -> str:
        """What comes next: the "answer", an "own" replay, a second one ("again"), or nothing any more."""
        if self.answer is None:
            return "answer"
        if self.answer.redone is None or (self.confirms and not self.plan.known):
            return ""
        if not self.own:
            return "own"
        unlike = self.own[0] is not None and self.own[0] != self.answer.redone
        return "again" if unlike and len(self.own) == 1 else ""

    @property
    def outcome(self) -> Outcome:
        """What comes of the task once nothing is awaited any more. What was to be done here as well, and could not be,
        is void, or an auditor could be paid for public roots under a proof that nobody has looked at.
        """
        said = self.answer.redone if self.answer else None
        if said is None or self.own == (None,):
            return "void"
        if not self.own:
            return "accepted" if self.confirms else "void"
        if said in self.own:
            return "accepted"
        return "rejected" if len(self.own) > 1 and self.own[0] == self.own[1] else "void"

    @property
    def finding(self) -> Replayed | None:
        """What the task shows of the work: a first replay of it, or nothing."""
        truth = self._truth
        if truth is None or self.is_decoy:
            return None
        round_ = self.answer.round if self.answer else 0
        if self._is_claim(truth):
            how = "by another member, and here" if self.own else "by another member"
            return Replayed(round_, self.plan.slot, "accepted", "exact", f"done again {how}, with equal bits")
        reason = f"doing the work again gives update {truth.update_root[:16]}… and trace {truth.trace_root[:16]}…"
        return Replayed(round_, self.plan.slot, "rejected", "exact", reason)

    @property
    def _truth(self) -> Redone | None:
        """The replay that the task ends with, if there is one to rely on."""
        if self.answer is None or self.awaits or self.outcome == "void":
            return None
        return self.answer.redone if self.outcome == "accepted" else self.own[0]

    def _is_claim(self, redone: Redone | None) -> bool:
        claim = (self.committed.update_root, self.committed.trace_root)
        return redone is not None and (redone.update_root, redone.trace_root) == claim

    def answered(self, message: Answered) -> Enquiry:
        return replace(self, answer=message) if self.answer is None else self

    def recomputed(self, message: Recomputed) -> Enquiry:
        expected = {"own": False, "again": True}.get(self.awaits)
        return replace(self, own=(*self.own, message.redone)) if message.again is expected else self

    def to_ask(self, opened: Open, seal: Seal) -> tuple[str, AskAuditor | Recompute] | None:
        """The effect that is needed next, under its name."""
        if not self.awaits:
            return None
        if self.awaits == "answer":
            ask = AskAuditor(opened, seal, self.plan)
            return task_name(ask), ask
        own = Recompute(opened, seal, self.plan, self.awaits == "again")
        return task_name(own), own

    def task(self, opened: Open) -> Task:
        """The entry of the verdict."""
        answer, auditor = self.answer, opened.members[self.plan.auditor].node
        redone, signature = (answer.redone, answer.signature) if answer else (None, "")
        reason = _REASONS[self.outcome] if redone else (answer.reason if answer else "")
        if redone and self.own == (None,):
            reason = "it could not be done here as well"
        return Task(self.plan.slot, auditor, self.plan.steps, self.outcome, reason, redone, signature)


_REASONS = {
    "accepted": "answered",
    "rejected": "two replays agree that the answer is wrong",
    "void": "the answer differs, and no two replays here agree",
}


def task_name(effect: AskAuditor | Recompute) -> str:
    """The name under which an answer or a replay is waited for."""
    kind = "task" if isinstance(effect, AskAuditor) else "recompute again" if effect.again else "recompute"
    return f"{kind} {effect.open.round} {effect.plan.slot}"
