"""Python's tree and Solidity's claims agree on random sets of entries."""

from __future__ import annotations

import random

import pytest
from deployed import Deployed, random_address

from anynode_contracts.entries import CUMULATIVE_GWEI_MAX, GWEI, INDEX_MAX, Entry, pack, unpack
from anynode_contracts.merkle import ZERO_LEAF, MerkleTree, build_tree, domain, hash_pair, leaf, verify, zero_root


def random_entries(seed: int, count: int, former: dict[int, Entry] | None = None) -> list[Entry]:
    """Ascending indices with gaps; with ``former``, its entries again with higher amounts."""
    generator = random.Random(seed)
    if former:
        return [
            Entry(entry.index, entry.account, entry.cumulative_gwei + generator.randrange(10**9))
            for entry in former.values()
        ]
    indices = sorted(generator.sample(range(1, 4 * count + 1), count))
    return [Entry(index, random_address(index), generator.randrange(10**9)) for index in indices]


@pytest.mark.parametrize("seed", range(6))
def test_claims_follow_the_python_tree(deployment: Deployed, seed: int) -> None:
    """Two random batches: what Python proves, Solidity pays, entry by entry or block by block."""
    generator = random.Random(seed)
    job = deployment.open_job()
    entries = random_entries(seed, generator.randrange(1, 14))
    for _ in range(2):
        tree = deployment.post(job, entries)
        deployment.pass_window()
        height = generator.randrange(tree.height + 1)
        block = generator.randrange(1 << (tree.height - height))
        first = block << height
        words = [pack(entry) for entry in entries[first : first + (1 << height)]]
        words += [bytes(32)] * ((1 << height) - len(words))
        push = deployment.distributor.build_claim_subtree(words, tree.subtree_proof(height, block))
        deployment.send(deployment.verifier, push)
        for position, entry in enumerate(entries):
            if deployment.distributor.claimed_gwei(entry.index) < entry.cumulative_gwei:
                claim = deployment.distributor.build_claim(pack(entry), tree.proof(position))
                deployment.send(deployment.verifier, claim)
            assert deployment.token.balance_wei(entry.account) == entry.cumulative_gwei * GWEI, f"seed {seed}"
        entries = random_entries(seed, len(entries), {entry.index: entry for entry in entries})
    paid_wei = sum(deployment.token.balance_wei(entry.account) for entry in entries)
    balance_wei = deployment.token.balance_wei(deployment.addresses.distributor)
    assert balance_wei == deployment.distributor.funded_wei() - paid_wei + deployment.distributor.bond_wei()


def test_domain_and_leaf_are_the_contracts(deployment: Deployed) -> None:
    contract = deployment.distributor.contract
    expected = domain(deployment.addresses.chain_id, deployment.addresses.distributor)
    assert bytes(contract.functions.domain().call()) == expected
    word = pack(Entry(INDEX_MAX, random_address(1), CUMULATIVE_GWEI_MAX))
    assert bytes(contract.functions.leafOf(word).call()) == leaf(expected, word)


def test_entries_pack_and_unpack() -> None:
    entry = Entry(0xDEADBEEF, random_address(1), 0x0123456789ABCDEF)
    word = pack(entry)
    assert word[:4].hex() == "deadbeef"
    assert word[4:24].hex() == entry.account[2:].lower()
    assert word[24:].hex() == "0123456789abcdef"
    assert unpack(word) == entry
    with pytest.raises(ValueError, match="does not fit into 32 bits"):
        pack(Entry(INDEX_MAX + 1, entry.account, 0))
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        pack(Entry(1, entry.account, CUMULATIVE_GWEI_MAX + 1))
    with pytest.raises(ValueError, match="is not an address of 20 bytes"):
        pack(Entry(1, "0x1234", 0))
    with pytest.raises(ValueError, match="an entry has 32 bytes"):
        unpack(word[1:])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 65])
def test_unstored_padding_hashes_like_stored_padding(size: int) -> None:
    """The tree never stores its zero leaves; its nodes are those of the tree that does."""
    leaves = [bytes([number + 1]) * 32 for number in range(size)]
    tree = MerkleTree(leaves)
    level = leaves + [ZERO_LEAF] * ((1 << tree.height) - size)
    for height in range(tree.height + 1):
        assert [tree.node(height, position) for position in range(len(level))] == level
        for position, node in enumerate(level):
            assert verify(tree.root, node, tree.subtree_proof(height, position))
            assert not verify(tree.root, bytes(31) + b"\x01", tree.subtree_proof(height, position))
        level = [hash_pair(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    assert tree.node(0, (1 << tree.height) - 1) == (leaves[-1] if size == 1 << tree.height else zero_root(0))


def test_faulty_trees_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to"):
        MerkleTree([])
    with pytest.raises(ValueError, match="32 bytes"):
        MerkleTree([b"short"])
    entry = Entry(5, random_address(1), 1)
    with pytest.raises(ValueError, match="5 follows 5"):
        build_tree(bytes(32), [entry, entry])
    with pytest.raises(IndexError):
        MerkleTree([bytes(32)]).proof(1)
