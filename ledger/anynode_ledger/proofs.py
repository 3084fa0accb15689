"""Merkle proofs of a batch's entries, read from a file per root; it is made when a proof of that root is first wanted.

The ledger holds the entries, so a file that is missing or damaged costs its making and nothing else.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, select

from anynode_contracts.merkle import domain
from anynode_contracts.tree_file import Proof, TreeFile, write_tree
from anynode_ledger import schema
from anynode_ledger.batch import BatchState
from anynode_ledger.book import Book
from anynode_ledger.settlement import stored_batches

#: Proofs are asked for of the active root, of the waiting one, and now and then of one before.
FILES_MAX = 4


@dataclass(frozen=True, slots=True)
class BatchProof:
    """What a batch has for a node: nothing, or a word with its proof. ``root`` has 64 hexadecimal digits."""

    number: int
    state: BatchState
    chain_id: int
    distributor: str
    domain: bytes
    root: str
    proof: Proof | None


class Proofs:
    """The proofs of a book's batches; their files lie in ``folder``, which belongs to this book alone."""

    def __init__(self, book: Book, folder: Path) -> None:
        self._book, self._folder = book, folder

    def of(self, index: int, *conditions: ColumnElement[bool]) -> BatchProof | None:
        """Node ``index`` in the newest batch that meets the conditions; None if there is no such batch."""
        table = schema.batches
        with self._book.read() as journal:
            row = journal.connection.execute(select(table).where(*conditions).order_by(table.c.id.desc())).first()
            if row is None:
                return None
            outcomes = schema.outcomes
            outcome = select(outcomes.c.outcome).where(outcomes.c.batch_id == row.id)
            state: BatchState = journal.connection.execute(outcome).scalar() or "pending"
            path = self._folder / f"{row.root}.tree"
            missing = [] if path.exists() else stored_batches(journal, table.c.id == row.id)
        bound_to = domain(row.chain_id, row.distributor)
        for stored in missing:
            write_tree(path, bound_to, stored.batch.entries)
            self._forget_all_but(path)
        with TreeFile(path) as tree:
            proof = tree.prove(index)
        return BatchProof(row.number, state, row.chain_id, row.distributor, bound_to, row.root, proof)

    def _forget_all_but(self, newest: Path) -> None:
        """Keep ``newest`` and the last ones before it. One that is open elsewhere is read to its end all the same."""
        others = [path for path in self._folder.glob("*.tree") if path != newest]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[FILES_MAX - 1 :]:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
