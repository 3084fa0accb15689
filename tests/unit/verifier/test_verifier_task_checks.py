"""Audit tasks in the records: whom the seed draws, what is under whose signature, who is paid and who is slashed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from signed_world import DOMAIN, SignedWorld, make_job

from anynode.rounds.judgements import Redone, Task, Verdict
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError
from anynode_verifier.credits import JudgedRound, judged_rounds, round_credits
from anynode_verifier.lineage import follow

VERIFIER_INDEX = 1_000


@pytest.fixture(scope="module")
def audited() -> SignedWorld:
    """Five members that audit each other, one of whom accuses; every kind of outcome but void."""
    world = SignedWorld(make_job(rounds=10), 6, 5, auditors=("accuses", "honest", "honest", "honest", "honest"))
    world.run(3_000.0)
    assert world.finished()
    assert {task.outcome for task in tasks_of(world)} == {"accepted", "rejected"}
    return world


def tasks_of(world: SignedWorld) -> list[Task]:
    return [task for record in world.records if isinstance(record.body, Verdict) for task in record.body.tasks]


def edited(world: SignedWorld, outcome: str, change: Callable[[Task], Task | None]) -> list[Record]:
    """The chain with the first task of this outcome changed or, for None, left out; hashes made to fit."""
    records: list[Record] = []
    done = False
    for record in world.records:
        body = record.body
        if isinstance(body, Verdict) and not done:
            place = next((n for n, task in enumerate(body.tasks) if task.outcome == outcome), None)
            if place is not None:
                other, done = change(body.tasks[place]), True
                body = replace(body, tasks=(*body.tasks[:place], *([other] if other else []), *body.tasks[place + 1 :]))
        previous = records[-1].hash if records else "0" * 64
        records.append(Record(record.job, len(records), previous, body))
    assert done
    return records


def test_the_chain_is_followed_as_it_is(audited: SignedWorld) -> None:
    follow(audited.records, audited.job, DOMAIN)


def other_node(world: SignedWorld, task: Task) -> str:
    return next(name for name in world.accounts if name != task.auditor)


@pytest.mark.parametrize(
    ("outcome", "change"),
    [
        ("accepted", lambda _: None),
        ("accepted", lambda task: replace(task, steps=task.steps + 1)),
        ("accepted", lambda task: replace(task, steps=1)),
        ("accepted", lambda task: replace(task, redone=None)),
        ("accepted", lambda task: replace(task, redone=replace(task.redone, proof="0" * 64))),
        ("accepted", lambda task: replace(task, signature="0x" + "11" * 65)),
        ("rejected", lambda task: replace(task, redone=None)),
        ("rejected", lambda task: replace(task, redone=Redone("1" * 64, "2" * 64, "3" * 64))),
    ],
    ids=[
        "a task left out",
        "more than was committed",
        "another task than was signed",
        "paid without an answer",
        "another proof than was signed",
        "a forged signature",
        "rejected without an answer",
        "rejected for what it has not signed",
    ],
)
def test_what_a_verdict_may_not_say_of_a_task(
    audited: SignedWorld, outcome: str, change: Callable[[Task], Task | None]
) -> None:
    with pytest.raises(RefusedError):
        follow(edited(audited, outcome, change), audited.job, DOMAIN)


def test_a_task_is_not_another_members(audited: SignedWorld) -> None:
    chain = edited(audited, "accepted", lambda task: replace(task, auditor=other_node(audited, task)))
    with pytest.raises(RefusedError, match="others than the seed draws"):
        follow(chain, audited.job, DOMAIN)


def test_an_audit_is_paid_by_steps_and_a_lie_is_slashed(audited: SignedWorld) -> None:
    indices = {name: index for index, name in enumerate(audited.accounts)}
    rounds = judged_rounds(audited.records)
    liars = {task.auditor for task in tasks_of(audited) if task.outcome == "rejected"}
    assert {name for round_ in rounds for name in round_.rejected} == liars
    paid = [round_ for round_ in rounds if round_.paid_tasks]
    assert paid
    for round_ in paid:
        _paid_by_steps(audited, round_, indices)


def _paid_by_steps(world: SignedWorld, round_: JudgedRound, indices: dict[str, int]) -> None:
    booked = round_credits(world.job, round_, indices, VERIFIER_INDEX)
    got = {item.node_index: item.amount_wei for item in booked if item.kind == "audit"}
    steps = {item.slot: item.steps for item in round_.seal.commitments}
    replayed = [item.slot for item in round_.verdict.judged if item.audited]
    by_task = {task.slot: indices[task.auditor] for task in round_.paid_tasks}
    share = sum(got.values())
    for index in {*by_task.values()}:
        mine = sum(steps[slot] for slot in replayed if by_task.get(slot) == index)
        assert abs(got[index] - share * mine / sum(steps[slot] for slot in replayed)) <= len(got)
    assert (VERIFIER_INDEX in got) == bool(set(replayed) - by_task.keys())
