"""Whether the roots of a public ledger are those that the chain was given, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.events import ChainEvent, RootPosted, RootVetoed, block_ranges, fetch_events
from anynode_contracts.networks import Network
from anynode_ledger.public import PublicBatch


@dataclass(frozen=True, slots=True)
class RootsSeen:
    """How many batches' roots are on the chain as listed, how many wait to be posted or were given up before, and how
    many the chain has of later times than the ledger.
    """

    confirmed: int
    not_posted: int
    later: int


def roots_on_chain(w3: Web3, network: Network) -> list[ChainEvent]:
    """What became of roots, in order. Raises ``UnreachableError`` when the RPC does not answer."""
    found: list[ChainEvent] = []
    try:
        for first, last in block_ranges(network.deployed_block, int(w3.eth.block_number)):
            found += fetch_events(w3, [network.distributor], from_block=first, to_block=last)
    except (RequestException, Web3Exception, OSError) as error:
        raise UnreachableError(
            f"no Ethereum RPC answers at {network.rpc_shown}; start it or correct rpc_url in the network file"
        ) from error
    return [event for event in found if isinstance(event, RootPosted | RootVetoed)]


def compare_roots(batches: Sequence[PublicBatch], events: Iterable[ChainEvent]) -> RootsSeen:
    """Raises ``RefusedError`` with the first difference. ``batches`` = all of a ledger, ``events`` = all of the chain,
    which may go on from there. A root that was vetoed and is not the ledger's has come to nothing: it is no difference.
    """
    posted = _without_foreign(_posted(events), batches)
    place, may_follow = 0, 0
    for batch in batches:
        root, is_vetoed = posted[place] if place < len(posted) else (None, False)
        if root is not None and _is_of(batch, root):
            _compare(batch, root, is_vetoed=is_vetoed)
            place += 1
        elif batch.state == "posted":
            there = f"0x{root.root.hex()}" if root is not None and root.batch == batch.number else "none"
            raise RefusedError(f"{_label(batch)} has the root 0x{batch.root} in the ledger, and on the chain {there}")
        else:
            is_vetoed = batch.state == "void"  # given up before its root was posted, or still waiting for that
        may_follow = batch.number + (not is_vetoed)
    for root, _ in posted[place:]:
        if root.batch < may_follow:
            raise RefusedError(
                f"the root 0x{root.root.hex()} of batch {root.batch} on the chain is not in the ledger; fetch it again,"
                " and tell the guardian if it is not there then"
            )
    return RootsSeen(place, len(batches) - place, len(posted) - place)


def _posted(events: Iterable[ChainEvent]) -> list[tuple[RootPosted, bool]]:
    """Every root that the chain was given, and whether it was vetoed."""
    posted: list[tuple[RootPosted, bool]] = []
    for event in events:
        if isinstance(event, RootPosted):
            posted.append((event, False))
        elif isinstance(event, RootVetoed):  # only what waits can be, and that is the newest
            posted[-1] = (posted[-1][0], True)
    return posted


def _without_foreign(
    posted: list[tuple[RootPosted, bool]], batches: Sequence[PublicBatch]
) -> list[tuple[RootPosted, bool]]:
    """What is newer than the ledger stays."""
    own = {(batch.number, batch.root, batch.data_hash) for batch in batches}
    newest = batches[-1].number if batches else 0
    return [
        (root, is_vetoed)
        for root, is_vetoed in posted
        if not is_vetoed or root.batch > newest or (root.batch, root.root.hex(), root.data_hash.hex()) in own
    ]


def _is_of(batch: PublicBatch, root: RootPosted) -> bool:
    """Attempts that pay the same have one root, but not one data hash; with an active one there is no other attempt."""
    if (root.batch, root.root.hex()) != (batch.number, batch.root):
        return False
    return batch.state == "posted" or root.data_hash.hex() == batch.data_hash


def _compare(batch: PublicBatch, root: RootPosted, *, is_vetoed: bool) -> None:
    for what, own, other in (
        ("total", int(batch.total_gwei), root.total_gwei),
        ("data hash", batch.data_hash, root.data_hash.hex()),
    ):
        if own != other:
            raise RefusedError(f"{_label(batch)} has the {what} {own} in the ledger, and {other} on the chain")
    if is_vetoed and batch.state == "posted":
        raise RefusedError(f"{_label(batch)} is active in the ledger, and was vetoed on the chain")
    if not is_vetoed and batch.state == "void":
        raise RefusedError(f"{_label(batch)} is vetoed in the ledger, and was not on the chain")


def _label(batch: PublicBatch) -> str:
    return f"batch {batch.number} attempt {batch.attempt}"
