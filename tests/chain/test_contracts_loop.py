"""The contracts as the loop uses them: register, fund a job, draw, post a root, wait, claim, refund."""

from __future__ import annotations

from typing import Any, cast

import pytest
from deployed import TOKEN_WEI, Deployed, random_address
from hexbytes import HexBytes

from anynode_contracts.calls import build_transaction, estimate_gas
from anynode_contracts.entries import GWEI, Entry, pack
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.typed_data import RootStatement, sign_claim, sign_registration, sign_root, signer_of_root


def test_the_whole_way_of_a_reward(deployment: Deployed) -> None:
    """Tokens that a job paid arrive at the miner to the wei, and the rest returns to the owner."""
    node, payout = deployment.account(), random_address(1)
    deployment.send(node, deployment.registry.build_register(payout))
    index = deployment.registry.index_of(node.address)
    assert index == 2, "the verifier is the first"
    job = deployment.open_job()
    before_wei = deployment.token.balance_wei(deployment.owner.address)

    entry = Entry(index, payout, 123_456_789)
    tree = deployment.post(job, [entry])
    drawn = deployment.escrow.job(job)
    assert drawn is not None
    assert (drawn.last_batch, drawn.last_batch_wei) == (1, 123_456_789 * GWEI)
    assert deployment.token.allowance_wei(deployment.owner.address, deployment.escrow.address) == 0
    deployment.send(deployment.poster, deployment.escrow.build_finalise(job, final_batch=1))
    waiting = deployment.distributor.waiting_root()
    assert waiting is not None
    assert (waiting.batch, waiting.root) == (1, tree.root)
    with pytest.raises(RefusedError, match="InvalidProof"):
        deployment.send(deployment.verifier, deployment.distributor.build_claim(pack(entry), tree.proof(0)))
    with pytest.raises(RefusedError, match="RefundTooEarly"):
        deployment.send(deployment.owner, deployment.escrow.build_refund(job))

    deployment.pass_window()
    active = deployment.distributor.active_root()
    assert active is not None
    assert (active.batch, active.root) == (1, tree.root)
    assert deployment.distributor.waiting_root() is None
    deployment.send(deployment.verifier, deployment.distributor.build_claim(pack(entry), tree.proof(0)))
    assert deployment.token.balance_wei(payout) == 123_456_789 * GWEI
    assert deployment.distributor.claimed_gwei(index) == 123_456_789
    with pytest.raises(RefusedError, match="NothingToClaim"):
        deployment.send(deployment.verifier, deployment.distributor.build_claim(pack(entry), tree.proof(0)))

    deployment.send(deployment.verifier, deployment.escrow.build_refund(job))
    returned_wei = deployment.token.balance_wei(deployment.owner.address) - before_wei
    assert returned_wei == 1000 * TOKEN_WEI - 123_456_789 * GWEI
    stored = deployment.escrow.job(job)
    assert stored is not None
    assert stored.refunded
    assert stored.remaining_wei == 0


def test_a_vetoed_number_is_posted_again(deployment: Deployed) -> None:
    """The guardian's veto leaves the number free and the drawn funds in place."""
    job = deployment.open_job()
    deployment.post(job, [Entry(1, random_address(1), 1000)])
    deployment.send(deployment.guardian, deployment.distributor.build_veto())
    assert deployment.distributor.waiting_root() is None
    assert deployment.distributor.active_root() is None
    assert deployment.distributor.next_batch() == 1
    honest = deployment.post(job, [Entry(1, random_address(1), 900)])
    deployment.pass_window()
    active = deployment.distributor.active_root()
    assert active is not None
    assert active.root == honest.root


def test_signed_registrations_are_sent_by_anyone(deployment: Deployed) -> None:
    """Nodes without ether are registered; a payout change waits and can be cancelled."""
    nodes = [deployment.account(ether=0) for _ in range(3)]
    registrations = [
        sign_registration(
            node,
            payout=random_address(number),
            deadline_s=deployment.now_s + 1000,
            chain_id=deployment.addresses.chain_id,
            registry=deployment.addresses.registry,
        )
        for number, node in enumerate(nodes)
    ]
    deployment.send(deployment.owner, deployment.registry.build_register_many(registrations))
    assert deployment.registry.count() == 4
    for number, node in enumerate(nodes):
        index = deployment.registry.index_of(node.address)
        assert index == number + 2
        info = deployment.registry.info_of(index)
        assert info is not None
        assert (info.node, info.payout) == (node.address, random_address(number))
    assert deployment.registry.info_of(5) is None
    assert deployment.registry.index_of(random_address(99)) is None

    deployment.anvil.fund(nodes[0].address, 1)
    deployment.send(nodes[0], deployment.registry.build_request_payout_change(2, random_address(7)))
    change = deployment.registry.payout_change_of(2)
    assert change is not None
    assert change[0] == random_address(7)
    deployment.send(nodes[0], deployment.registry.build_cancel_payout_change(2))
    assert deployment.registry.payout_change_of(2) is None


def test_a_claim_is_redirected_by_signature(deployment: Deployed) -> None:
    """The account signs where its tokens go; somebody else sends it."""
    account, to = deployment.account(ether=0), random_address(5)
    entry = Entry(1, account.address, 4321)
    tree = deployment.post(deployment.open_job(), [entry])
    deployment.pass_window()
    deadline_s = deployment.now_s + 1000
    signature = sign_claim(
        account,
        pack(entry),
        to=to,
        deadline_s=deadline_s,
        chain_id=deployment.addresses.chain_id,
        distributor=deployment.addresses.distributor,
    )
    call = deployment.distributor.build_claim_with_sig(
        pack(entry), tree.proof(0), to=to, deadline_s=deadline_s, signature=signature
    )
    deployment.send(deployment.verifier, call)
    assert deployment.token.balance_wei(to) == 4321 * GWEI
    assert deployment.token.balance_wei(account.address) == 0


def test_an_outbox_signs_the_same_bytes_again(deployment: Deployed) -> None:
    """A call and its gas are known before signing; the same nonce gives the same raw transaction."""
    call = deployment.token.build_transfer(random_address(3), 5)
    assert call.what == "AnyToken.transfer"
    assert estimate_gas(deployment.w3, call, deployment.owner.address) > 21_000
    transaction = build_transaction(deployment.w3, call, deployment.owner.address, nonce=7, gas=90_000)
    assert HexBytes(transaction["data"]) == call.data
    signed = [deployment.owner.sign_transaction(cast(dict[str, Any], transaction)) for _ in range(2)]
    assert signed[0].raw_transaction == signed[1].raw_transaction
    assert signed[0].hash == signed[1].hash


def test_refusals_are_told_in_words(deployment: Deployed) -> None:
    """A refused call names the contract's error and its values."""
    job = deployment.open_job(budget_wei=100)
    with pytest.raises(RefusedError, match=r"JobEscrow\.draw was refused.*OverBatchCap\(wouldBeWei=101, capWei=100\)"):
        deployment.send(deployment.poster, deployment.escrow.build_draw(job, batch=1, amount_wei=101))
    with pytest.raises(RefusedError, match="AccessManagedUnauthorized"):
        deployment.send(deployment.owner, deployment.escrow.build_draw(job, batch=1, amount_wei=1))
    with pytest.raises(RefusedError, match=r"was refused by the RPC: .*see that 0x.* has ether for the gas"):
        deployment.send(deployment.account(ether=0), deployment.token.build_approve(random_address(1), 1))
    assert deployment.escrow.job(b"\x01" * 32) is None
    with pytest.raises(UserError, match="is not a job id"):
        deployment.escrow.job("0x1234")


def test_a_client_at_the_wrong_address_says_so(deployment: Deployed) -> None:
    """Reading from an address without the contract is the user's error, not a stack trace."""
    with pytest.raises(UserError, match="there is no RewardDistributor at"):
        type(deployment.distributor)(deployment.w3, random_address(1)).next_batch()


def test_a_root_needs_the_verifiers_signature(deployment: Deployed) -> None:
    """Signed here as the contract hashes it, for one root and no other."""
    distributor, chain_id = deployment.distributor, deployment.addresses.chain_id
    root = RootStatement(1, 0, b"\x07" * 32, 0, b"\x08" * 32)
    (signed,) = deployment.sign_root(root)
    assert signer_of_root(root, signed.signature, chain_id=chain_id, distributor=distributor.address) == signed.verifier
    with pytest.raises(RefusedError, match=r"QuorumMissing\(signatures=0, quorum=1\)"):
        deployment.send(deployment.poster, distributor.build_post_root(root, []))
    stranger = sign_root(deployment.owner, root, chain_id=chain_id, distributor=distributor.address)
    with pytest.raises(RefusedError, match="WrongStanding"):
        deployment.send(deployment.poster, distributor.build_post_root(root, [stranger]))
    for other in (RootStatement(1, 1, root.root, 0, root.data_hash), RootStatement(1, 0, root.root, 1, root.data_hash)):
        assert (
            signer_of_root(other, signed.signature, chain_id=chain_id, distributor=distributor.address)
            != signed.verifier
        )
    with pytest.raises(RefusedError, match="InvalidSignature"):
        deployment.send(
            deployment.poster,
            distributor.build_post_root(root, deployment.sign_root(RootStatement(1, 1, root.root, 0, root.data_hash))),
        )
    deployment.send(deployment.poster, distributor.build_post_root(root, [signed]))
    waiting = distributor.waiting_root()
    assert waiting is not None
    assert waiting.root == root.root
