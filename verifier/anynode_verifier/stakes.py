"""What the ledger says of a job's nodes: what they have to lose, and who owns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anynode_ledger.book import Book


@dataclass(frozen=True, slots=True)
class Stakes:
    """Read afresh at each call."""

    book: Book
    job_id: str

    def held_back_wei(self) -> Mapping[str, int]:
        """What is held back of each node in this job."""
        return self.book.held_back_wei(self.job_id)

    def staked(self) -> tuple[str, ...]:
        """The nodes from which something is held back, in this job or another."""
        return tuple(sorted(name for name, held_wei in self.book.held_back_wei().items() if held_wei))

    def owners(self) -> Mapping[str, str]:
        """Whom the pay of each registered node goes to."""
        return {node.node: node.payout for node in self.book.nodes()}
