"""Where a registered node's rewards go, and whether somebody may change that now, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anynode.wallet.times import show_time

if TYPE_CHECKING:
    from anynode_contracts.clients import RegistryClient


@dataclass(frozen=True)
class PayoutView:
    """A node as the registry has it at one block: who is paid, and the change that waits, with the time from which it
    counts. Addresses have their checksums.
    """

    index: int
    node: str
    payout: str
    waiting: tuple[str, int] | None


def payout_view(registry: RegistryClient, index: int) -> PayoutView | None:
    """The node as the newest block has it, None where nobody has the index."""
    block = registry.w3.eth.block_number
    info = registry.info_of(index, block=block)
    if info is None:
        return None
    return PayoutView(index, info.node, info.payout, registry.payout_change_of(index, block=block))


def where_rewards_go(view: PayoutView) -> str:
    """Now, and from when on elsewhere; for the middle of a sentence."""
    if view.waiting is None:
        return f"rewards go to {view.payout}"
    payout, effective_at_s = view.waiting
    return f"rewards go to {view.payout}, and from {show_time(effective_at_s)} on to {payout}"


def why_not_changed(view: PayoutView, sender: str, payout: str) -> str:
    """Why ``sender`` cannot have ``payout`` paid, or need not ask for it; empty where it can."""
    if why_not := _why_not_theirs(view, sender):
        return why_not
    if view.waiting is not None and view.waiting[0] == payout:
        return (
            f"a change of node {view.index} to {payout} waits already, and counts from {show_time(view.waiting[1])} on;"
            " asking again would only put it off"
        )
    if view.payout == payout:
        keep = (
            "; `anynode payout cancel` withdraws the change that waits" if view.waiting else ", so nothing need change"
        )
        return f"rewards of node {view.index} go to {payout} already{keep}"
    return ""


def why_not_withdrawn(view: PayoutView, sender: str) -> str:
    """Why ``sender`` cannot withdraw a change; empty where it can."""
    if why_not := _why_not_theirs(view, sender):
        return why_not
    if view.waiting is None:
        return f"no change of node {view.index}'s payout address waits: {where_rewards_go(view)}"
    return ""


def told_at_start(view: PayoutView, asked: str | None) -> str:
    """What a node tells once it is registered. ``asked``: the address that it was started with, if any: it counts in
    the registration alone.
    """
    told = f"registered on the chain as node {view.index}; {where_rewards_go(view)}"
    destinations = {view.payout, view.waiting[0] if view.waiting else view.payout}
    if asked is None or asked in destinations:
        return told
    return f"{told}, not to {asked}: --payout counts once, at the registration, and `anynode payout change` changes it"


def _why_not_theirs(view: PayoutView, sender: str) -> str:
    if sender in (view.node, view.payout):
        return ""
    return (
        f"only the key of node {view.index}, {view.node}, and its payout account {view.payout} may change where its"
        f" rewards go, not {sender}; name the wallet of one of them with --wallet"
    )
