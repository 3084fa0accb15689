"""A worker that turned to fraud is found late: its work is taken out of the model, and the job goes on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_network import NETWORK, SmallNetwork

TURNING = (str(Path(__file__).parent / "programs" / "turning_worker.py"),)
HONEST = ("worker-1", "worker-2")
ROUNDS = 8
FRAUD = 1
"""The first round in which it cheats, as a proven member."""


@pytest.mark.deep
def test_a_fraud_found_late_is_taken_out_and_the_job_goes_on(network: SmallNetwork) -> None:
    processes = network.processes
    nodes = [network.wallet(name) for name in (*HONEST, "turning")]
    node = nodes[-1]
    network.start_verifier()
    job_id = network.submit(network.job_file("late", rounds=ROUNDS, inner_steps=120, workers=3, budget="20"))["job_id"]
    for name in HONEST:
        network.start_worker(name)
    processes.start("turning", "--network", NETWORK, "--wallet", "turning", program=TURNING)

    network.until("a round with its fraud", lambda: network.job()["round"] >= FRAUD + 1, "verifier", *HONEST)
    with network.training_stopped("worker-1"):  # or a fast machine would be through before the verdict is in
        network.until("the verdict on it", lambda: FRAUD in judged(network, job_id), "verifier", *HONEST)
        slots = {item["node"]: item["slot"] for item in opened(network, job_id, FRAUD)["members"]}
        request = ("verifier", "excise", job_id[:12], "--network", NETWORK, "--round", str(FRAUD), "--slot")
        words, _ = network.refused(*request, str(slots[nodes[0]]))
        assert "not proven a fraud" in words, "honest work is never taken out"
        processes.start("excise", *request, str(slots[node]))
        network.until("the recomputed round", lambda: "waits for the round" in processes.log("excise"), "verifier")
    assert processes.wait("excise", 120.0) == 0, network.words()
    assert "Recorded in the place of round" in processes.log("excise")

    network.until("the last round", lambda: network.job()["phase"] == "finished", "verifier")
    for name in HONEST:
        assert processes.wait(name, 60.0) == 0, processes.log(name)
    job = network.job()
    numbers = job["round"]
    assert numbers in (ROUNDS, ROUNDS + 1), "it takes the place of a round, or comes after the last one"
    assert job["state_forks"] == 0
    assert [(item["round"], item["slot"], item["node"]) for item in job["excised"]] == [(FRAUD, slots[node], node)]
    words, _ = network.refused(*request, str(slots[nodes[0]]))
    assert "the job has finished" in words

    network.until("all verdicts", lambda: len(judged(network, job_id)) == numbers - 1, "verifier")
    folder = network.home / "result"
    processes.run("result", str(folder), "--network", NETWORK)
    audit = processes.attempt("audit", str(folder), "--round", str(FRAUD))
    assert audit.code == 0, audit.err
    assert f"round {FRAUD}, slot {slots[node]}: taken out of the model rightly" in audit.out + audit.err


def bodies(network: SmallNetwork, job_id: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    height = 0
    while more := network.get(f"/v1/jobs/{job_id}/records?from={height}"):
        height += len(more)
        found += [item["record"]["body"] for item in more]
    return [body for body in found if body["kind"] == kind]


def opened(network: SmallNetwork, job_id: str, round_: int) -> dict[str, Any]:
    return next(body for body in bodies(network, job_id, "open") if body["round"] == round_)


def judged(network: SmallNetwork, job_id: str) -> set[int]:
    return {body["round"] for body in bodies(network, job_id, "verdict")}
