"""How a job's price is divided between those who do its work. Nodes and ledger know the same."""

from __future__ import annotations

from dataclasses import dataclass

from anynode_contracts.errors import invariant


@dataclass(frozen=True, slots=True)
class PaySplit:
    """How a job divides its price, in percent."""

    samples: int = 90
    audits: int = 5
    reducing: int = 5

    def __post_init__(self) -> None:
        parts = (self.samples, self.audits, self.reducing)
        invariant(min(parts) >= 0 and sum(parts) == 100, f"a pay split of {parts} does not make 100 percent")
