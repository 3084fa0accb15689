"""What a transaction offers per gas, and what its replacement on the same nonce offers. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fees:
    """``maxFeePerGas`` and ``maxPriorityFeePerGas`` (EIP-1559), in wei."""

    max_wei: int
    priority_wei: int


def raised(fee_wei: int) -> int:
    """12.5 % more, rounded up, and a wei at least: nodes refuse a replacement of which either fee is not raised."""
    return fee_wei + max(1, -(-fee_wei // 8))


def replacement(former: Fees, now: Fees, limit_wei: int) -> Fees | None:
    """What the chain asks ``now``, at least an eighth over ``former``, at most the limit; None where that cannot be."""
    least = raised(former.max_wei)
    if least > limit_wei or raised(former.priority_wei) > limit_wei:
        return None
    offered = min(max(now.max_wei, least), limit_wei)
    return Fees(offered, min(max(now.priority_wei, raised(former.priority_wei)), offered))
