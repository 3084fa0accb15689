"""The seven things that the demo claims, and whether each was seen to be so."""

from __future__ import annotations

from dataclasses import dataclass, field

CLAIMS = {
    1: "chain started, contracts deployed, wallets encrypted, job funded in escrow",
    2: "coordinator, ledger and four worker processes started; newcomers admitted by replay",
    3: "at least 10 rounds of local steps, 4-bit exchange, every state_root the same, loss falls",
    4: "a worker killed, restarted, and back under the same identity",
    5: "the cheat's work rejected with a reason; ledger settled; one reward root posted",
    6: "job closed, held-back pay released; balances on the chain are the ledger's, to the wei; the cheat has none",
    7: "result written, and anynode audit holds over it",
}


@dataclass
class Claims:
    """``failures[n]`` lists what was not so; a claim that was never reached does not hold."""

    reached: set[int] = field(default_factory=set)
    failures: dict[int, list[str]] = field(default_factory=dict)

    def check(self, number: int, condition: bool, otherwise: str) -> None:
        """Note what was seen for claim ``number``."""
        self.reached.add(number)
        if not condition:
            self.failures.setdefault(number, []).append(otherwise)

    def holds(self, number: int) -> bool:
        return number in self.reached and number not in self.failures

    @property
    def hold(self) -> bool:
        return all(self.holds(number) for number in CLAIMS)
