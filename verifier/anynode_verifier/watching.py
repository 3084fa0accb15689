"""Looks at the root that waits on the chain: does it follow from the published ledger, or is it a fraud?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from anynode_contracts.calls import Call
from anynode_contracts.clients import DistributorClient, RootOnChain
from anynode_contracts.entries import Entry
from anynode_contracts.errors import RefusedError
from anynode_contracts.merkle import domain
from anynode_contracts.networks import Network
from anynode_ledger.frauds import Fraud, find_fraud, tree_of
from anynode_ledger.public import PublicBatch, PublicLedger
from anynode_ledger.rebuild import rebuild


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen. ``doubtful`` roots are for the guardian to look at; of a ``fraud``, ``proof`` is what ends it."""

    what: Literal["nothing waits", "good", "doubtful", "fraud"]
    words: str
    batch: int = 0
    root: str = ""
    proof: Call | None = None


def look(distributor: DistributorClient, network: Network, raw: dict[str, Any]) -> Sight:
    """Compare the chain's roots with a public ledger. Raises web3's errors while the RPC is down."""
    waiting, active = distributor.waiting_root(), distributor.active_root()
    if waiting is None:
        return Sight("nothing waits", "no root waits on the chain")
    number, root = waiting.batch, waiting.root.hex()
    try:
        listed = PublicLedger.model_validate(raw)
    except ValidationError:
        return Sight("doubtful", "the published ledger is malformed; tell the guardian", number, root)
    now, before = _entries(listed, network, waiting), _entries(listed, network, active)
    if now is None or before is None:
        return Sight("doubtful", "no entries are published that lead to it; tell the guardian", number, root)
    fraud = find_fraud(domain(network.chain_id, network.distributor), before, now)
    if fraud is not None:
        words = f"it is a fraud on node {fraud.index}: a {fraud.kind}"
        return Sight("fraud", words, number, root, _proof(distributor, fraud))
    try:
        rebuilt = rebuild(raw, network.daily_cap_gwei)
    except RefusedError as error:
        return Sight("doubtful", f"it does not follow ({error}); tell the guardian", number, root)
    if not rebuilt or rebuilt[-1].root != root:
        return Sight("doubtful", "it is not the ledger's newest; tell the guardian", number, root)
    return Sight("good", "it follows from the published ledger", number, root)


def _entries(ledger: PublicLedger, network: Network, root: RootOnChain | None) -> list[Entry] | None:
    """The published entries that lead to a root; none at all lead to none."""
    if root is None:
        return []
    domain_hash = domain(network.chain_id, network.distributor)
    for batch in reversed(ledger.batches):
        if batch.entries and batch.root == root.root.hex():
            entries = _listed(batch)
            if tree_of(domain_hash, entries).root == root.root:
                return entries
    return None


def _listed(batch: PublicBatch) -> list[Entry]:
    return [Entry(entry.index, entry.account, int(entry.cumulative_gwei)) for entry in batch.entries]


def _proof(distributor: DistributorClient, fraud: Fraud) -> Call:
    if fraud.kind == "decrease":
        return distributor.build_prove_decrease(fraud.first, fraud.second)
    return distributor.build_prove_duplicate(fraud.first, fraud.second)
