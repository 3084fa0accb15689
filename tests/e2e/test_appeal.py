"""An honest worker that a faulty verifier rejects repeats its work, appeals, is paid and comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_network import NETWORK, VERIFIER_READY, SmallNetwork

pytestmark = pytest.mark.deep

ERRING = str(Path(__file__).parent / "programs" / "erring_verifier.py")
REPLAYS = "2"
"""A rejection takes so many; the appeal's is the next."""
HONEST, ACCUSED = "worker-1", "worker-2"
ROUNDS = 5
PACE = ("--steps-per-s-max", "4")


def rejection(network: SmallNetwork, node: str) -> dict[str, Any]:
    found = [item for item in network.job().get("rejected", []) if item["node"] == node and item["round"] == 0]
    return found[0] if found else {}


def outcome(network: SmallNetwork, node: str) -> str:
    return str((rejection(network, node).get("appeal") or {}).get("outcome", ""))


def test_a_false_rejection_is_taken_back(network: SmallNetwork) -> None:
    processes = network.processes
    nodes = {name: network.wallet(name) for name in (HONEST, ACCUSED)}
    node = nodes[ACCUSED]
    run = ("run", "--network", NETWORK, "--alive-s", "6")
    network.start_program("verifier", VERIFIER_READY, (ERRING,), node, REPLAYS, *run)
    job_id = network.submit(network.job_file("appealed", rounds=ROUNDS, inner_steps=40, workers=2))["job_id"]
    for name in (HONEST, ACCUSED):
        network.start_worker(name, *PACE)
    network.until("the verdict", lambda: bool(rejection(network, node)), "verifier", HONEST)
    with network.training_stopped(HONEST):  # or the job would end while the owner of the node reads
        assert processes.wait(ACCUSED, 60.0) != 0, "it is told that it is out"
        proof = network.get(f"/v1/blobs/{rejection(network, node)['proof']}")
        assert (proof["node"], proof["dispute"]["segment"], proof["dispute"]["what"]) == (node, 0, "after")
        shown = processes.attempt("status", "--network", NETWORK, "--node", node)
        words = " ".join(shown.out.split())
        assert "segment 0 differs" in words and f"--job {job_id} --round 0" in words, shown.out
        repeat(network, job_id)
        check_bad_input(network, job_id)
        request = ("appeal", "--network", NETWORK, "--wallet", ACCUSED, "--job", job_id[:12], "--round", "0")
        assert processes.run(*request)["taken_in"] is True
        os.kill(processes.pid("verifier"), signal.SIGKILL)
        processes.wait("verifier", 30.0)
        network.start_verifier()
        network.until("the ruling", lambda: outcome(network, node) == "granted", "verifier")
        words, code = network.refused(*request)
        assert code == 4 and "heard already" in words and "one for each rejection" in words, words
        assert rejection(network, node)["appeal"]["mistaken"] == network.status()["verifier"]
        network.start_worker(ACCUSED, *PACE)
    network.until("the last round", lambda: network.job()["phase"] == "finished", "verifier")
    assert processes.wait(ACCUSED, 90.0) == 0, network.words()  # it has a place until the job's end
    network.until("its payments", lambda: network.status()["ledger"]["jobs"][0]["closed"], "verifier")
    account = next(item for item in network.status()["ledger"]["nodes"] if item["node"] == node)
    assert int(account["earned_wei"]) > 0 and int(account["slashed_wei"]) == 0, account
    member = next(item for item in network.job()["members"] if item["node"] == node)
    assert member["proven"] and not member["refused"], member
    shown = processes.attempt("status", "--network", NETWORK)
    assert "taken back after an appeal" in " ".join(shown.out.split()), shown.out
    folder = str(network.home / "result")
    processes.run("result", folder, "--network", NETWORK)
    audit = processes.attempt("audit", folder, "--network", NETWORK, "--round", "0")
    assert audit.code == 0, audit.err


def repeat(network: SmallNetwork, job_id: str) -> None:
    """The commands that the miner's page gives: on the worker's machine its work has the bits that it claimed."""
    folder = str(network.home / "repeated")
    network.processes.run("result", folder, "--network", NETWORK, "--job", job_id)
    words, code = network.refused("audit", folder, "--network", NETWORK, "--round", "0")
    assert code == 4 and "honest work was rejected" in words, words


def check_bad_input(network: SmallNetwork, job_id: str) -> None:
    """Typed by hand: each is one sentence."""
    appeal = ("appeal", "--network", NETWORK)
    for arguments, said in (
        (("--wallet", ACCUSED, "--job", job_id, "--round", "1"), "no verdict has rejected work"),
        (("--wallet", HONEST, "--job", job_id, "--round", "0"), "no verdict has rejected work"),
        (("--wallet", ACCUSED, "--job", "ffffffffffff", "--round", "0"), "no job whose id begins with"),
        (("--wallet", ACCUSED, "--job", job_id, "--round", "-1"), "is not in the range"),
        (("--wallet", ACCUSED, "--job", job_id), "missing option"),
        (("--wallet", "nobody", "--job", job_id, "--round", "0"), "no wallet"),
    ):
        words, _ = network.refused(*appeal, *arguments)
        assert said in words, words
    for body in (b"", b"{}", b'{"kind": "appeal"}', b"x" * 2000):
        answer = httpx.post(f"{network.api_url}/v1/jobs/{job_id}/appeals", content=body, timeout=60.0)
        assert answer.status_code in (400, 409) and answer.json()["error"], answer.text
