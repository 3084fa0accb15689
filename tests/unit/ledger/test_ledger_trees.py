"""Reward trees as files: proofs by node index, what is damaged, and which files are kept."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from ledger_actors import TOKEN, decide, pay

from anynode_contracts.entries import Entry, pack, unpack
from anynode_contracts.errors import UserError
from anynode_contracts.merkle import build_tree, domain, keccak, verify
from anynode_contracts.networks import Network
from anynode_contracts.tree_file import TreeFile, write_tree
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.proofs import FILES_MAX, Proofs
from anynode_ledger.settlement import settle

DOMAIN = domain(1, "0x" + "11" * 20)


def entries_of(count: int, seed: int) -> list[Entry]:
    """Ascending indices with gaps."""
    generator = random.Random(seed)
    indices = sorted(generator.sample(range(1, 4 * count + 1), count))
    return [Entry(index, f"0x{index:040x}", generator.randrange(2**64)) for index in indices]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 33, 257])
def test_a_file_proves_what_the_tree_proves(tmp_path: Path, count: int) -> None:
    entries = entries_of(count, seed=count)
    tree = build_tree(DOMAIN, entries)
    assert write_tree(tmp_path / "t.tree", DOMAIN, entries).root == tree.root
    with TreeFile(tmp_path / "t.tree") as file:
        assert (file.size, file.root, file.domain) == (count, tree.root, DOMAIN)
        for position, entry in enumerate(entries):
            proof = file.prove(entry.index)
            assert proof is not None
            assert (unpack(proof.word).index, proof.word) == (entry.index, pack(entry))
            assert proof.siblings == tree.proof(position)
            assert verify(tree.root, proof.leaf, proof.siblings)
        absent = set(range(4 * count + 3)) - {entry.index for entry in entries}
        assert all(file.prove(index) is None for index in absent)


def test_a_damaged_file_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.tree"
    write_tree(path, DOMAIN, entries_of(16, seed=1))
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole + b"\0", b"else" + whole[4:]):
        path.write_bytes(data)
        with pytest.raises(UserError, match="made again from the ledger"):
            TreeFile(path)
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    entry = entries_of(16, seed=1)[0]
    with TreeFile(path) as file, pytest.raises(UserError, match="damaged"):
        file.prove(entry.index)


def test_keccak_is_not_sha3() -> None:
    """The value that Ethereum's clients have for the empty string."""
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_a_book_keeps_the_files_of_its_newest_roots(book: Book, network: Network, tmp_path: Path) -> None:
    proofs = Proofs(book, tmp_path)
    assert proofs.of(1) is None
    for number in range(1, FILES_MAX + 3):
        book.credit([pay(1, number, TOKEN), pay(2, number, TOKEN)], 0)
        batch = settle(book, network)
        assert batch is not None
        decide(book, "posted")
        for _ in range(2):  # made, then read
            found = proofs.of(2, schema.batches.c.number == number)
            assert found is not None and found.proof is not None
            assert (found.number, found.state, found.root) == (number, "posted", batch.root)
            assert verify(bytes.fromhex(batch.root), found.proof.leaf, found.proof.siblings)
        assert (nothing := proofs.of(9)) is not None and nothing.proof is None
        assert len(list(tmp_path.glob("*.tree"))) == min(number, FILES_MAX)
        assert (tmp_path / f"{batch.root}.tree").exists()
    assert proofs.of(1, schema.batches.c.number == 1) is not None
