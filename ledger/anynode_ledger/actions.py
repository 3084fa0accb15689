"""What each intent is on the chain: the call that carries it out, and whether the chain shows that it is done.

The second question makes the outbox safe with a database restored from a copy: an intent whose effect is there is
never sent again, and one whose starting point is not what the ledger expects is not sent at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from web3 import Web3

from anynode_contracts.calls import Call
from anynode_contracts.clients import DistributorClient, EscrowClient
from anynode_contracts.errors import RefusedError, invariant
from anynode_contracts.slashes import SlashesClient, SlashStatus
from anynode_contracts.stakes import TwoVotes, VerifierSetClient, VerifierStanding
from anynode_contracts.typed_data import RootSignature, RootStatement
from anynode_ledger.intents import Intent

RootSignatures = Callable[[RootStatement], Sequence[RootSignature]]
"""A quorum's signatures over a root. Raises ``RefusedError`` while fewer have signed than must."""


def call_of(w3: Web3, intent: Intent, root_signatures: RootSignatures) -> Call:
    """The contract call that carries the intent out. Raises as ``root_signatures`` does."""
    match intent.kind:
        case "draw":
            return EscrowClient(w3, intent.contract).build_draw(
                _text(intent, "job_id"), batch=_number(intent, "batch"), amount_wei=_number(intent, "amount_wei")
            )
        case "finalise":
            return EscrowClient(w3, intent.contract).build_finalise(
                _text(intent, "job_id"), final_batch=_number(intent, "final_batch")
            )
        case "postRoot":
            client = DistributorClient(w3, intent.contract)
            statement = RootStatement(
                batch=_number(intent, "batch"),
                cancelled=client.cancelled(),
                root=bytes.fromhex(_text(intent, "root")),
                total_gwei=_number(intent, "total_gwei"),
                data_hash=bytes.fromhex(_text(intent, "data_hash")),
            )
            return client.build_post_root(statement, root_signatures(statement))
        case "prove":
            return VerifierSetClient(w3, intent.contract).build_prove(_two_votes(intent))
        case "fill":
            return Call(Web3.to_checksum_address(intent.contract), b"", "an empty transaction to oneself")
        case "proposeSlash":
            return SlashesClient(w3, intent.contract).build_propose(
                _number(intent, "index"),
                amount_wei=_number(intent, "amount_wei"),
                job=_text(intent, "job"),
                evidence=_text(intent, "evidence"),
            )
        case "executeSlash":
            return SlashesClient(w3, intent.contract).build_execute(_number(intent, "id"))


def is_done(w3: Web3, intent: Intent, *, block: int) -> bool:
    """Whether the state after ``block`` shows the intent's effect.

    Raises ``RefusedError`` when the chain stands at a point from which the intent makes no sense.
    """
    match intent.kind:
        case "draw":
            return _is_drawn(w3, intent, block)
        case "finalise":
            job = EscrowClient(w3, intent.contract).job(_text(intent, "job_id"), block=block)
            return job is not None and (job.finalised or job.refunded)
        case "postRoot":
            number, root = _number(intent, "batch"), bytes.fromhex(_text(intent, "root"))
            client = DistributorClient(w3, intent.contract)
            found = [r for r in (client.waiting_root(block=block), client.active_root(block=block)) if r is not None]
            newest = max(found, key=lambda r: r.batch, default=None)
            if newest is None or newest.batch < number:
                return False
            if newest.batch == number and newest.root != root:
                raise RefusedError(
                    f"batch {number} on the chain has the root 0x{newest.root.hex()}, the ledger's is 0x{root.hex()};"
                    " find out who posted it, and veto it if it still waits"
                )
            return True
        case "prove":
            standing = VerifierSetClient(w3, intent.contract).standing_of(intent.subject, block=block)
            return standing is VerifierStanding.PROVEN
        case "fill":
            sender = Web3.to_checksum_address(intent.contract)
            return w3.eth.get_transaction_count(sender, block) > _number(intent, "nonce")
        case "proposeSlash":
            return _is_proposed(w3, intent, block)
        case "executeSlash":
            slash = SlashesClient(w3, intent.contract).slash(_number(intent, "id"), block=block)
            return slash.status in (SlashStatus.DISMISSED, SlashStatus.EXECUTED)


def _is_proposed(w3: Web3, intent: Intent, block: int) -> bool:
    """Whether somebody has proposed it, or nothing of the stake is left to freeze: less than was meant still counts."""
    client, index = SlashesClient(w3, intent.contract), _number(intent, "index")
    proposed = client.proposed(index, from_block=_number(intent, "from_block"))
    return _text(intent, "evidence") in proposed.values() or client.free_wei(index, block=block) == 0


def _two_votes(intent: Intent) -> TwoVotes:
    (first, second), (one, other) = _pair(intent, "records"), _pair(intent, "signatures")
    return TwoVotes(
        job=_text(intent, "job"),
        height=_number(intent, "height"),
        view=_number(intent, "view"),
        phase=_text(intent, "phase"),
        records=(first, second),
        signatures=(one, other),
    )


def _is_drawn(w3: Web3, intent: Intent, block: int) -> bool:
    job_id = _text(intent, "job_id")
    job = EscrowClient(w3, intent.contract).job(job_id, block=block)
    if job is None:
        return False
    before, amount = _number(intent, "drawn_before_wei"), _number(intent, "amount_wei")
    if job.drawn_wei <= before:
        return False
    if job.drawn_wei != before + amount:
        raise RefusedError(
            f"the escrow of job {job_id[:16]}… has paid out {job.drawn_wei} wei, the ledger expects {before} wei before"
            f" drawing {amount} wei; restore the ledger from its newest copy"
        )
    return True


def _text(intent: Intent, name: str) -> str:
    return str(intent.arguments[name])


def _pair(intent: Intent, name: str) -> tuple[str, str]:
    pair = intent.arguments[name]
    invariant(isinstance(pair, list) and len(pair) == 2, f"{name} of a proof are two")
    return str(pair[0]), str(pair[1])  # type: ignore[index]


def _number(intent: Intent, name: str) -> int:
    return int(str(intent.arguments[name]))
