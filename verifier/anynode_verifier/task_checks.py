"""Checks what a verdict says of audit tasks: whom the seed draws, and what each has signed. Pure but for hashing."""

from __future__ import annotations

from anynode.rounds.audits import Audit
from anynode.rounds.course import Committed
from anynode.rounds.enquiries import auditors_of, drawn_auditor, task_key, task_seed
from anynode.rounds.judgements import Task, Verdict
from anynode.rounds.statements import answer_statement
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check


def check_tasks(verdict: Verdict, audit: Audit, job: str, domain: SigningDomain) -> None:
    """Every replayed slot that somebody may audit has been given to the one drawn, and what it is paid or rejected for
    is under its signature. ``audit.drawn`` names the slots. Raises ``RefusedError``.
    """
    opened, seed = audit.open, task_seed(verdict.secret, verdict.block_hash)
    expected: dict[int, str] = {}
    for slot in audit.for_others:
        able = auditors_of(opened, audit.seal, audit.assign, slot)
        auditor = drawn_auditor(opened, able, slot, seed)
        if auditor is not None:
            expected[slot] = opened.members[auditor].node
    given = [(task.slot, task.auditor) for task in verdict.tasks]
    _require(given == sorted(expected.items()), verdict, "gives audit tasks to others than the seed draws")
    committed = {item.slot: item for item in audit.seal.commitments}
    judged = {item.slot: item for item in verdict.judged}
    for task in verdict.tasks:
        work = committed[task.slot]
        _require(1 <= task.steps <= work.steps, verdict, f"asks for more than slot {task.slot} has committed")
        if task.redone is None:
            _require(task.outcome == "void", verdict, f"decides on an auditor of slot {task.slot} without an answer")
            continue
        key = task_key(seed, task.slot, task.auditor)
        said = answer_statement(job, task.redone, round_=verdict.round, slot=task.slot, steps=task.steps, key=key)
        check(domain, said, task.signature, task.auditor)
        unlike = task.outcome == "accepted" and judged[task.slot].rejected and _confirms(task, work)
        _require(not unlike, verdict, f"rejects slot {task.slot}, which the auditor that it pays has confirmed")


def _confirms(task: Task, work: Committed) -> bool:
    redone = task.redone
    same = redone is not None and (redone.update_root, redone.trace_root) == (work.update_root, work.trace_root)
    return same and task.steps == work.steps


def _require(condition: bool, verdict: Verdict, what: str) -> None:
    if not condition:
        raise RefusedError(f"the verdict of round {verdict.round} {what}")
