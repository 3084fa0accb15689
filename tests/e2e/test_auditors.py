"""Real members audit each other's work for a verifier, and are paid for it from the audit share."""

from __future__ import annotations

import pytest
from processes import ANYNODE
from small_network import NETWORK, VERIFIER_READY, SmallNetwork

from anynode.rounds.chain import read_public
from anynode.rounds.course import Open
from anynode.rounds.judgements import Verdict

pytestmark = pytest.mark.deep

#: More than are needed: members leave at the end of a job, so it goes on until both have answered.
ROUNDS = 200
PACE = ("--steps-per-s-max", "2")
AUDITORS, OTHER = ("worker-1", "worker-2"), "worker-3"
VERIFIER = ("verifier", "run", "--network", NETWORK, "--alive-s", "6", "--audit-floor", "1")


def test_members_audit_each_other_and_are_paid(network: SmallNetwork) -> None:
    """Three members in one class, of whom two take tasks; every piece of work is audited, by exact replay."""
    nodes = {name: network.wallet(name) for name in (*AUDITORS, OTHER)}
    network.start_program("verifier", VERIFIER_READY, ANYNODE, *VERIFIER)
    job_id = network.submit(network.job_file("audited", rounds=ROUNDS, workers=3))["job_id"]
    for name in AUDITORS:
        network.start_worker(name, "--audit", *PACE)
    network.start_worker(OTHER, *PACE)

    def paid(name: str) -> bool:
        members = network.job()["members"]
        return any(item["node"] == nodes[name] and item["tasks"].get("accepted") for item in members)

    network.until("the first round", lambda: network.job()["round"] >= 1, "verifier")
    for name in AUDITORS:
        network.until(f"a paid audit of {name}", lambda name=name: paid(name), "verifier")  # type: ignore[misc]

    path = network.home / "home" / "data" / "verifiers" / NETWORK / "jobs" / job_id / "records.jsonl"
    bodies = [item.record.body for item in read_public(path)]
    opened = {body.round: body for body in bodies if isinstance(body, Open)}
    tasks = [(body.round, task) for body in bodies if isinstance(body, Verdict) for task in body.tasks]
    done = [(round_, task) for round_, task in tasks if task.outcome == "accepted"]
    assert not [task for _, task in tasks if task.outcome == "rejected"]
    assert {task.auditor for _, task in done} == {nodes[name] for name in AUDITORS}
    assert all(opened[round_].members[task.slot].node != task.auditor for round_, task in done)
    assert all(item.accepted for body in bodies if isinstance(body, Verdict) for item in body.judged)
    network.until("their pay", lambda: audit_pay(network) >= {nodes[name] for name in AUDITORS}, "verifier")


def audit_pay(network: SmallNetwork) -> set[str]:
    """The nodes that the ledger credits with audits."""
    ledger = network.get("/v1/ledger")
    nodes = {node["index"]: node["node"] for node in ledger["nodes"]}
    return {nodes[credit["node_index"]] for credit in ledger["credits"] if credit["kind"] == "audit"}
