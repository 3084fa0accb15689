"""Workers of another hardware class than the verifier's: audited by opened segments and paid, or found out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import ANYNODE
from small_network import NETWORK, VERIFIER_READY, SmallNetwork

from anynode.device.hardware import processors
from anynode.rounds.chain import read_public
from anynode.rounds.course import Assign, Open
from anynode.rounds.judgements import Judged, Verdict

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(processors() < 2, reason="a second class needs a second processor"),
]

ROUNDS = 4
#: Slow enough that states are opened while the job still runs: a worker leaves when it has ended.
PACE = ("--steps-per-s-max", "1.5")
HONEST, CHEAT = "worker-1", "worker-2"
TWO_THREADS = ("--threads", "2")
VERIFIER = ("verifier", "run", "--network", NETWORK, "--alive-s", "6", "--audit-floor", "1")


@dataclass(frozen=True)
class Outcome:
    """What the records and the ledger say of each worker, by name."""

    hardware: dict[str, str]
    judged: dict[str, list[Judged]]
    rejected: dict[str, list[str]]
    earned_wei: dict[str, int]
    log: str


@pytest.fixture(scope="module")
def outcome(network: SmallNetwork) -> Outcome:
    processes = network.processes
    nodes = {name: network.wallet(name) for name in (HONEST, CHEAT)}
    processes.run("verifier", "calibrate", "--network", NETWORK, *TWO_THREADS)
    network.start_program("verifier", VERIFIER_READY, ANYNODE, *VERIFIER)
    job_id = network.submit(network.job_file("classes", rounds=ROUNDS, inner_steps=20, workers=2))["job_id"]
    network.start_worker(HONEST, *TWO_THREADS, *PACE)
    program = (str(Path(__file__).parent / "programs" / "half_batches.py"),)
    processes.start(CHEAT, "--network", NETWORK, "--wallet", CHEAT, *TWO_THREADS, program=program)
    folder = network.home / "home" / "data" / "verifiers" / NETWORK

    def records() -> list[object]:
        path = folder / "jobs" / job_id / "records.jsonl"
        return [item.record.body for item in read_public(path)] if path.exists() else []

    def verdicts() -> list[Verdict]:
        return [body for body in records() if isinstance(body, Verdict)]

    network.until("all verdicts", lambda: len(verdicts()) == ROUNDS, "verifier")
    bodies = records()
    opened = {body.round: body for body in bodies if isinstance(body, Open)}
    names = {node: name for name, node in nodes.items()}
    judged: dict[str, list[Judged]] = {HONEST: [], CHEAT: []}
    for verdict in verdicts():
        for item in verdict.judged:
            judged[names[item.node]].append(item)
    rejected: dict[str, list[str]] = {HONEST: [], CHEAT: []}
    for body in bodies:
        if isinstance(body, Assign) and body.attempt == 0:
            for reason in body.rejected:
                rejected[names[opened[body.round].members[reason.slot].node]].append(reason.reason)
    network.until("the pay", lambda: earned(network, nodes[HONEST]) > 0, "verifier")
    return Outcome(
        hardware={names[member.node]: member.hardware for member in opened[0].members},
        judged=judged,
        rejected=rejected,
        earned_wei={name: earned(network, node) for name, node in nodes.items()},
        log=(folder / "verifier.log").read_text(),
    )


def earned(network: SmallNetwork, node: str) -> int:
    listed = network.status()["ledger"]["nodes"]
    return sum(int(item["earned_wei"]) for item in listed if item["node"] == node)


def test_honest_work_of_another_class_is_admitted_audited_by_segments_and_paid(outcome: Outcome) -> None:
    assert "threads-2" in outcome.hardware[HONEST]
    assert not outcome.rejected[HONEST]
    found = outcome.judged[HONEST]
    assert len(found) == ROUNDS and all(item.outcome == "accepted" for item in found), found
    later = [item for item in found if item.evidence == "tolerant"]
    assert later and all("as close as honest machines come" in item.reason for item in later), found
    assert outcome.earned_wei[HONEST] > 0


def test_half_batches_of_another_class_are_found_by_their_drift_and_decided_exactly(outcome: Outcome) -> None:
    (reason,) = outcome.rejected[CHEAT]
    assert "honest machines stay below" in reason, reason
    assert [item.outcome for item in outcome.judged[CHEAT]] == ["rejected"]
    assert outcome.earned_wei[CHEAT] == 0
