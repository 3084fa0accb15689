"""Real reducers that add wrongly or leave out a sender with its receipt: rejected, slashed, and the sender is paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from churn_network import STEADY, ChurnNetwork
from small_network import NETWORK, Wares

from anynode.rounds.course import Open
from anynode.rounds.judgements import Verdict

PROGRAM = str(Path(__file__).parent / "programs" / "false_reducer.py")
LIARS = {"adds": "worker-3", "omits": "worker-4"}


@pytest.mark.deep
def test_both_are_found_out_in_their_first_round(churn_wares: Wares) -> None:
    """Round 0 has four chunks, one for each member. The public records hold what proves it."""
    with ChurnNetwork(churn_wares) as network:
        network.nodes = {name: network.wallet(name) for name in (*STEADY, *LIARS.values())}
        network.start_verifier()
        job = network.job_file("false", rounds=8, inner_steps=20, workers=4, budget="100", round_s=60, exchange_s=16)
        network.job_id = network.submit(job)["job_id"]
        for name in STEADY:
            network.start_worker(name)
        for vice, name in LIARS.items():
            program = (PROGRAM, vice)
            network.processes.start(name, "--network", NETWORK, "--wallet", name, program=program)
        network.until("the end", lambda: network.job()["phase"] == "finished", "verifier")
        network.until("its money", lambda: network.status()["ledger"]["jobs"][0]["closed"], "verifier")

        verdicts = {body.round: body for body in network.bodies(Verdict)}
        items = [item for _, body in sorted(verdicts.items()) for item in body.reductions]
        assert {item.node for item in items} == {network.nodes[name] for name in LIARS.values()}, network.words()
        # Once they are refused they leave, and what only they had nobody can average again.
        found = {item.node: item for item in reversed(items) if item.outcome == "rejected"}
        assert len(found) == len(LIARS), items
        adds, omits = (found[network.nodes[LIARS[vice]]].reason for vice in ("adds", "omits"))
        assert "its reducer signed" in adds
        assert "to which it had given a receipt" in omits
        claims = [(number, item) for number, body in verdicts.items() for item in body.claims]
        opens = {body.round: body for body in network.bodies(Open)}
        claimants = {opens[number].members[item.slot].node for number, item in claims}
        assert claimants and not claimants & {network.nodes[LIARS["omits"]]}
        network.check([])
        shown = network.job()["reductions"]
        assert {(item["node"], item["reason"]) for item in shown} == {(item.node, item.reason) for item in items}
        by_node = {item["node"]: item for item in network.status()["ledger"]["nodes"]}
        for name in LIARS.values():
            assert int(by_node[network.nodes[name]]["slashed_wei"]) > 0
        network.processes.run("result", str(network.home / "result"), "--network", NETWORK)
        network.processes.run("audit", str(network.home / "result"), "--network", NETWORK, "--round", "0")
