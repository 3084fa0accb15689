"""An owner cancels a job in the middle: it gets no more rounds, what was accepted is paid, and the audit holds."""

from __future__ import annotations

import pytest
from small_network import NETWORK, OWNER, SmallNetwork
from web3.types import RPCEndpoint

from anynode_contracts.networks import connect

ROUNDS = 1_000


@pytest.mark.deep
def test_a_cancelled_job_finishes_early_and_pays(network: SmallNetwork) -> None:
    processes = network.processes
    network.wallet("worker")
    network.start_verifier()
    job = network.job_file("cancelled", rounds=ROUNDS, budget="100", round_s=30, exchange_s=5)
    job_id = network.submit(job)["job_id"]
    network.start_worker("worker")
    network.until("accepted work", lambda: network.job()["audits"]["judged"] >= 1, "verifier", "worker")

    cancelled = processes.run("job", "cancel", job_id[:12], "--network", NETWORK, "--wallet", OWNER)
    assert (cancelled["job_id"], cancelled["cancelled"]) == (job_id, True)
    w3 = connect(f"http://127.0.0.1:{network.rpc_port}")
    w3.provider.make_request(RPCEndpoint("evm_increaseTime"), [120])  # or the test would wait for the others to know
    network.mine(3)
    network.until("the end of the job", lambda: network.job()["phase"] == "finished", "verifier")
    assert 0 < network.job()["round"] < ROUNDS
    assert processes.wait("worker", 60.0) == 0, processes.log("worker")
    assert "its owner has cancelled it" in processes.log("worker")

    def is_paid() -> bool:
        network.mine(3)
        return any(batch["state"] == "posted" for batch in network.get("/v1/ledger")["batches"])

    network.until("an active root", is_paid, "verifier")
    folder = network.home / "result"
    processes.run("result", str(folder), "--network", NETWORK)
    audit = processes.attempt("audit", str(folder), "--network", NETWORK)
    assert audit.code == 0, audit.err
    assert "are those of the chain" in audit.out + audit.err
