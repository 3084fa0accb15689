"""Every event that the ledger takes in arrives typed, in order, with its place on the chain."""

from __future__ import annotations

from deployed import DATA_HASH, Deployed, random_address

from anynode_contracts import events
from anynode_contracts.entries import GWEI, Entry, pack
from anynode_contracts.typed_data import sign_claim


def fetch(deployment: Deployed, from_block: int) -> list[events.ChainEvent]:
    addresses = deployment.addresses
    return events.fetch_events(
        deployment.w3,
        [addresses.registry, addresses.escrow, addresses.distributor],
        from_block=from_block,
        to_block=deployment.w3.eth.block_number,
    )


def test_a_jobs_life_as_events(deployment: Deployed) -> None:
    start = deployment.w3.eth.block_number + 1
    node = deployment.account()
    deployment.send(node, deployment.registry.build_register(random_address(1)))
    job = deployment.open_job(budget_wei=10_000 * GWEI)
    deadline_s = deployment.now_s
    deployment.send(deployment.owner, deployment.token.build_approve(deployment.addresses.escrow, 5))
    deployment.send(deployment.owner, deployment.escrow.build_fund(job, 5))
    entries = [Entry(1, random_address(1), 100), Entry(2, random_address(2), 0), Entry(3, node.address, 50)]
    tree = deployment.post(job, entries)
    deployment.send(deployment.guardian, deployment.distributor.build_veto())
    deployment.post(job, entries)
    deployment.send(deployment.poster, deployment.escrow.build_finalise(job, final_batch=1))
    deployment.pass_window()
    words = [pack(entry) for entry in entries[:2]]
    deployment.send(node, deployment.distributor.build_claim_subtree(words, tree.subtree_proof(1, 0)))
    until_s = deployment.now_s + 100
    signature = sign_claim(
        node, pack(entries[2]), to=random_address(9), deadline_s=until_s, chain_id=deployment.addresses.chain_id,
        distributor=deployment.addresses.distributor,
    )  # fmt: skip
    redirected = deployment.distributor.build_claim_with_sig(
        pack(entries[2]), tree.proof(2), to=random_address(9), deadline_s=until_s, signature=signature
    )
    deployment.send(node, redirected)
    deployment.send(node, deployment.escrow.build_refund(job))

    found = fetch(deployment, start)
    owner, escrow = deployment.owner.address, deployment.addresses.escrow
    expected: list[tuple[type, dict[str, object]]] = [
        (events.Registered, {"index": 2, "node": node.address, "payout": random_address(1)}),
        (events.JobCreated, {"job": job, "owner": owner, "budget_wei": 10_000 * GWEI}),
        (events.JobFunded, {"job": job, "funder": owner, "amount_wei": 5}),
        (events.JobDrawn, {"job": job, "batch": 1, "amount_wei": 150 * GWEI}),
        (events.Funded, {"funder": escrow, "amount_wei": 150 * GWEI}),
        (events.RootPosted, {"batch": 1, "root": tree.root, "total_gwei": 150, "data_hash": DATA_HASH}),
        (events.RootVetoed, {"batch": 1, "root": tree.root}),
        (events.RootPosted, {"batch": 1, "root": tree.root, "total_gwei": 150}),
        (events.JobFinalised, {"job": job, "final_batch": 1}),
        (events.Claimed, {"entries": (entries[0],)}),
        (events.Claimed, {"entries": (entries[2],)}),
        (events.Redirected, {"index": 3, "to": random_address(9)}),
        (events.JobRefunded, {"job": job, "owner": owner, "amount_wei": 9_850 * GWEI + 5}),
    ]
    assert [type(event) for event in found] == [kind for kind, _ in expected]
    for event, (_, fields) in zip(found, expected, strict=True):
        assert {name: getattr(event, name) for name in fields} == fields
    created = found[1]
    assert isinstance(created, events.JobCreated)
    assert created.deadline_s - deadline_s <= 86400
    places = [(event.position.block_number, event.position.log_index) for event in found]
    assert places == sorted(places)
    assert len({(event.position.block_hash, event.position.log_index) for event in found}) == len(found)
    for event in found:
        block = deployment.w3.eth.get_block(event.position.block_number)
        assert bytes(block["hash"]) == event.position.block_hash


def test_the_rarer_events(deployment: Deployed) -> None:
    start = deployment.w3.eth.block_number + 1
    node = deployment.account()
    deployment.send(node, deployment.registry.build_register(node.address))
    deployment.send(node, deployment.registry.build_request_payout_change(2, random_address(4)))
    deployment.send(node, deployment.registry.build_cancel_payout_change(2))
    job = deployment.open_job()
    deployment.send(deployment.owner, deployment.escrow.build_cancel(job))
    entry = Entry(1, "0x" + "00" * 20, 10)
    tree = deployment.post(job, [entry])
    deployment.pass_window()
    deployment.send(node, deployment.distributor.build_claim_subtree([pack(entry)], tree.proof(0)))
    found = fetch(deployment, start)
    kinds = [type(event) for event in found]
    assert events.PayoutChangeRequested in kinds
    assert events.PayoutChangeCancelled in kinds
    assert events.JobCancelled in kinds
    skipped = found[-1]
    assert isinstance(skipped, events.Skipped)
    assert skipped.entry == entry
    assert deployment.distributor.claimed_gwei(1) == 0
