"""The contracts' events as typed values: what the ledger takes in from the chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from eth_typing import ABIEvent, ChecksumAddress
from eth_utils.abi import event_abi_to_log_topic
from web3 import Web3
from web3._utils.events import get_event_data
from web3.types import FilterParams, LogReceipt

from anynode_contracts import artifacts
from anynode_contracts.entries import Entry, unpack

#: How many blocks are asked for events at once; public RPCs refuse many more.
BLOCKS_AT_ONCE = 10_000


@dataclass(frozen=True)
class LogPosition:
    """Where a log lies. (chain, block hash, log index) is unique, also across reorganisations."""

    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


@dataclass(frozen=True)
class Registered:
    position: LogPosition
    index: int
    node: ChecksumAddress
    payout: ChecksumAddress


@dataclass(frozen=True)
class PayoutChangeRequested:
    position: LogPosition
    index: int
    payout: ChecksumAddress
    effective_at_s: int


@dataclass(frozen=True)
class PayoutChangeCancelled:
    position: LogPosition
    index: int


@dataclass(frozen=True)
class JobCreated:
    position: LogPosition
    job: bytes
    owner: ChecksumAddress
    budget_wei: int
    cap_per_batch_wei: int
    deadline_s: int


@dataclass(frozen=True)
class JobFunded:
    position: LogPosition
    job: bytes
    funder: ChecksumAddress
    amount_wei: int


@dataclass(frozen=True)
class JobDrawn:
    position: LogPosition
    job: bytes
    batch: int
    amount_wei: int


@dataclass(frozen=True)
class JobCancelled:
    position: LogPosition
    job: bytes
    deadline_s: int


@dataclass(frozen=True)
class JobFinalised:
    position: LogPosition
    job: bytes
    final_batch: int


@dataclass(frozen=True)
class JobRefunded:
    position: LogPosition
    job: bytes
    owner: ChecksumAddress
    amount_wei: int


@dataclass(frozen=True)
class Funded:
    position: LogPosition
    funder: ChecksumAddress
    amount_wei: int


@dataclass(frozen=True)
class RootPosted:
    position: LogPosition
    batch: int
    root: bytes
    total_gwei: int
    data_hash: bytes
    active_at_s: int


@dataclass(frozen=True)
class RootVetoed:
    position: LogPosition
    batch: int
    root: bytes


@dataclass(frozen=True)
class Bonded:
    """``amount_wei`` more lie beside the funds, for bounties. No ledger's money."""

    position: LogPosition
    funder: ChecksumAddress
    amount_wei: int


@dataclass(frozen=True)
class FraudProven:
    """The :class:`RootVetoed` before it came by a proof. The bounty comes out of the bond."""

    position: LogPosition
    batch: int
    index: int
    finder: ChecksumAddress
    bounty_wei: int


@dataclass(frozen=True)
class Claimed:
    """Each of ``entries`` was paid up to its cumulative amount: one by a claim, several by a subtree push."""

    position: LogPosition
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Redirected:
    """The claim just before in the same transaction went to ``to``."""

    position: LogPosition
    index: int
    to: ChecksumAddress


@dataclass(frozen=True)
class Skipped:
    """A push left ``entry`` unpaid, because the token refused."""

    position: LogPosition
    entry: Entry


ChainEvent = (
    Registered
    | PayoutChangeRequested
    | PayoutChangeCancelled
    | JobCreated
    | JobFunded
    | JobDrawn
    | JobCancelled
    | JobFinalised
    | JobRefunded
    | Funded
    | RootPosted
    | RootVetoed
    | Bonded
    | FraudProven
    | Claimed
    | Redirected
    | Skipped
)

#: Event name -> how its arguments become a value.
_BUILDERS: dict[str, Callable[[LogPosition, Mapping[str, Any]], ChainEvent]] = {
    "Registered": lambda at, a: Registered(at, a["index"], a["node"], a["payout"]),
    "PayoutChangeRequested": lambda at, a: PayoutChangeRequested(at, a["index"], a["payout"], a["effectiveAt"]),
    "PayoutChangeCancelled": lambda at, a: PayoutChangeCancelled(at, a["index"]),
    "JobCreated": lambda at, a: JobCreated(
        at, bytes(a["job"]), a["owner"], a["budgetWei"], a["capPerBatchWei"], a["deadline"]
    ),
    "JobFunded": lambda at, a: JobFunded(at, bytes(a["job"]), a["funder"], a["amountWei"]),
    "JobDrawn": lambda at, a: JobDrawn(at, bytes(a["job"]), a["batch"], a["amountWei"]),
    "JobCancelled": lambda at, a: JobCancelled(at, bytes(a["job"]), a["deadline"]),
    "JobFinalised": lambda at, a: JobFinalised(at, bytes(a["job"]), a["finalBatch"]),
    "JobRefunded": lambda at, a: JobRefunded(at, bytes(a["job"]), a["owner"], a["amountWei"]),
    "Funded": lambda at, a: Funded(at, a["funder"], a["amount"]),
    "RootPosted": lambda at, a: RootPosted(
        at, a["batch"], bytes(a["root"]), a["totalGwei"], bytes(a["dataHash"]), a["activeAt"]
    ),
    "RootVetoed": lambda at, a: RootVetoed(at, a["batch"], bytes(a["root"])),
    "Bonded": lambda at, a: Bonded(at, a["funder"], a["amount"]),
    "FraudProven": lambda at, a: FraudProven(at, a["batch"], a["index"], a["finder"], a["bountyWei"]),
    "Claimed": lambda at, a: Claimed(at, (unpack(bytes(a["entry"])),)),
    "SubtreeClaimed": lambda at, a: Claimed(at, tuple(unpack(bytes(word)) for word in a["entries"])),
    "Redirected": lambda at, a: Redirected(at, a["index"], a["to"]),
    "Skipped": lambda at, a: Skipped(at, unpack(bytes(a["entry"]))),
}


def block_ranges(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The blocks from ``first`` to ``last`` in ranges (both ends included) that public RPCs give the events of."""
    for start in range(first, last + 1, BLOCKS_AT_ONCE):
        yield start, min(start + BLOCKS_AT_ONCE - 1, last)


def fetch_events(w3: Web3, addresses: Iterable[str], *, from_block: int, to_block: int) -> list[ChainEvent]:
    """What the contracts at ``addresses`` emitted in these blocks (both included), in chain order."""
    query: FilterParams = {
        "address": [Web3.to_checksum_address(address) for address in addresses],
        "fromBlock": from_block,
        "toBlock": to_block,
    }
    logs = sorted(w3.eth.get_logs(query), key=lambda log: (log["blockNumber"], log["logIndex"]))
    return [event for event in (decode_event(w3, log) for log in logs) if event is not None]


def decode_event(w3: Web3, log: LogReceipt) -> ChainEvent | None:
    """The typed event of ``log``, or None for one that the ledger has no use for (such as ``Transfer``).

    The caller has chosen the log's address: a log says nothing about which contract should have sent it.
    """
    if not log["topics"]:
        return None
    abi = _event_abis().get(bytes(log["topics"][0]))
    if abi is None:
        return None
    data = get_event_data(w3.codec, abi, log)
    position = LogPosition(
        block_number=log["blockNumber"],
        block_hash=bytes(log["blockHash"]),
        transaction_hash=bytes(log["transactionHash"]),
        log_index=log["logIndex"],
    )
    return _BUILDERS[data["event"]](position, data["args"])


@cache
def _event_abis() -> dict[bytes, Any]:
    """First topic -> ABI of every event that has a builder."""
    found: dict[bytes, Any] = {}
    for contract in ("MinerRegistry", "JobEscrow", "RewardDistributor"):
        for item in artifacts.load(contract).abi:
            if item["type"] == "event" and item["name"] in _BUILDERS:
                found[event_abi_to_log_topic(cast(ABIEvent, item))] = item
    return found
