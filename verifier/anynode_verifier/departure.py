"""How a verifier goes out of the set on chain and has its stake back: it resigns, asks the stake back, withdraws it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from web3 import Web3

from anynode.wallet.amounts import show_wei
from anynode.wallet.times import show_time
from anynode_contracts.calls import Call
from anynode_contracts.clients import RegistryClient
from anynode_contracts.errors import UserError
from anynode_contracts.networks import Network
from anynode_contracts.stakes import Stake, StakesClient, VerifierSetClient, VerifierStanding


class Step(enum.StrEnum):
    """What a verifier sends on its way out."""

    WITHDRAW = "withdraw"
    RESIGN = "resign"
    ASK_BACK = "ask back"


@dataclass(frozen=True, slots=True)
class Departure:
    """How far a verifier is on its way out, at one block of the time ``now_s``. ``payout`` gets what it withdraws."""

    index: int
    payout: str
    standing: VerifierStanding
    others: int
    stake: Stake
    now_s: int

    @property
    def steps(self) -> tuple[Step, ...]:
        """What can be sent now, in order. What has waited goes first: asking for more would make it wait anew."""
        wanted = {
            Step.WITHDRAW: self.stake.withdrawable_wei(self.now_s) > 0,
            Step.RESIGN: self.standing is VerifierStanding.MEMBER,
            Step.ASK_BACK: self.stake.active_wei > 0,
        }
        return tuple(step for step, is_wanted in wanted.items() if is_wanted)

    @property
    def leaves_nobody(self) -> bool:
        """Whether the set is empty after it."""
        return self.standing is VerifierStanding.MEMBER and self.others == 0

    def __str__(self) -> str:
        inside = "in the set" if self.standing is VerifierStanding.MEMBER else "not in the set"
        return (
            f"node {self.index}, {inside}, {show_wei(self.stake.active_wei)} ANY at stake and "
            f"{show_wei(self.stake.unbonding_wei)} ANY asked back"
        )

    @property
    def remaining(self) -> str:
        """What is still to come, in a sentence."""
        stake = self.stake
        if not stake.at_stake_wei:
            return "Nothing of it is at stake any more."
        if stake.free_wei < stake.unbonding_wei and self.now_s >= stake.withdrawable_at_s:
            return f"Proposed slashes hold {show_wei(stake.frozen_wei)} ANY; decided, the same command goes on."
        return (
            f"From {show_time(stake.withdrawable_at_s)} on the same command sends {show_wei(stake.unbonding_wei)} ANY "
            f"to {self.payout}; until then they answer for what was signed."
        )


def look(w3: Web3, network: Network, verifier: str) -> Departure:
    """Ask the chain how far ``verifier`` is. Raises ``UserError`` for one that was never registered."""
    registry = RegistryClient(w3, network.registry)
    index = registry.index_of(verifier)
    found = None if index is None else registry.info_of(index)
    if index is None or found is None:
        raise UserError(f"{verifier} is not registered on network {network.name}: it has nothing to leave")
    verifiers = VerifierSetClient(w3, network.verifier_set)
    return Departure(
        index=index,
        payout=found.payout,
        standing=verifiers.standing_of(verifier),
        others=sum(member != verifier for member in verifiers.members()),
        stake=StakesClient(w3, network.stakes).stake_of(index),
        now_s=w3.eth.get_block("latest")["timestamp"],
    )


def call_of(w3: Web3, network: Network, departure: Departure, step: Step) -> Call:
    """The transaction of a step, for the verifier to send."""
    stakes = StakesClient(w3, network.stakes)
    match step:
        case Step.WITHDRAW:
            return stakes.build_withdraw(departure.index)
        case Step.RESIGN:
            return VerifierSetClient(w3, network.verifier_set).build_resign()
        case Step.ASK_BACK:
            return stakes.build_request_unstake(departure.index, departure.stake.active_wei)
