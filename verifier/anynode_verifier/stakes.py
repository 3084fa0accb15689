"""What the ledger says of a job and its nodes: what they have to lose, who owns them, whether the job is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anynode_ledger.book import Book
from anynode_ledger.chain_log import is_finalised, posted_at_s
from anynode_ledger.earning import has_ended
from anynode_ledger.lapsing import deadline_s


@dataclass(frozen=True, slots=True)
class Stakes:
    """Read afresh at each call."""

    book: Book
    job_id: str
    chain_id: int

    def held_back_wei(self) -> Mapping[str, int]:
        """What is held back of each node in this job."""
        return self.book.held_back_wei(self.job_id)

    def staked(self) -> tuple[str, ...]:
        """The nodes from which something is held back, in this job or another."""
        return tuple(sorted(name for name, held_wei in self.book.held_back_wei().items() if held_wei))

    def owners(self) -> Mapping[str, str]:
        """Whom the pay of each registered node goes to."""
        return {node.node: node.payout for node in self.book.nodes()}

    def ended(self, after_s: int = 0) -> bool:
        """Whether the job has been over on the chain for so long, as its final blocks show."""
        with self.book.read() as journal:
            end_s = deadline_s(journal, self.job_id)
            return end_s is not None and posted_at_s(journal, self.chain_id) >= end_s + after_s

    def closed(self) -> bool:
        """Whether nothing more is booked for the job: here or, as the chain shows, by the verifier that settles."""
        with self.book.read() as journal:
            return has_ended(journal, self.job_id) or is_finalised(journal, self.chain_id, self.job_id)
