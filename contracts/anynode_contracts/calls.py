"""One call to a contract, before anyone signs it: built here, filled with gas and nonce, sent, or kept by an outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3RPCError
from web3.types import TxParams, TxReceipt, Wei

from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.reverts import explain_revert

#: Room for state that changes between the estimate and the block.
_GAS_MARGIN_PERCENT = 20


@dataclass(frozen=True)
class Call:
    """Calldata for one contract function. ``what`` names it for people ("RewardDistributor.postRoot")."""

    to: ChecksumAddress
    data: bytes
    what: str

    def params(self, sender: str) -> TxParams:
        """The call as ``eth_call`` and ``eth_estimateGas`` take it, from ``sender``."""
        return {"from": Web3.to_checksum_address(sender), "to": self.to, "data": HexBytes(self.data), "value": Wei(0)}


def estimate_gas(w3: Web3, call: Call, sender: str) -> int:
    """Gas limit for ``call`` from ``sender``, with a margin. Raises ``RefusedError`` if the contract would refuse."""
    try:
        return w3.eth.estimate_gas(call.params(sender)) * (100 + _GAS_MARGIN_PERCENT) // 100
    except ContractLogicError as error:
        raise refusal(call.what, error) from error


def build_transaction(
    w3: Web3, call: Call, sender: str, *, nonce: int | None = None, gas: int | None = None
) -> TxParams:
    """An EIP-1559 transaction, ready to sign. ``nonce`` and ``gas`` default to what the chain says now."""
    tip = w3.eth.max_priority_fee
    base = w3.eth.get_block("latest").get("baseFeePerGas", Wei(0))
    transaction: TxParams = {
        "type": 2,
        "chainId": w3.eth.chain_id,
        "to": call.to,
        "data": HexBytes(call.data),
        "value": Wei(0),
        "nonce": w3.eth.get_transaction_count(Web3.to_checksum_address(sender), "pending") if nonce is None else nonce,  # type: ignore[typeddict-item]
        "gas": estimate_gas(w3, call, sender) if gas is None else gas,
        "maxPriorityFeePerGas": tip,
        "maxFeePerGas": Wei(2 * base + tip),
    }
    return transaction


def send(w3: Web3, account: LocalAccount, call: Call, *, wait_s: float = 120.0) -> TxReceipt:
    """Sign ``call``, send it and wait for its receipt.

    Raises ``RefusedError`` if the contract or the RPC refuses it, and ``UnreachableError`` if no block takes it
    within ``wait_s``.
    """
    signed = account.sign_transaction(cast(dict[str, Any], build_transaction(w3, call, account.address)))
    try:
        transaction_hash = w3.eth.send_raw_transaction(signed.raw_transaction)
        receipt = w3.eth.wait_for_transaction_receipt(transaction_hash, timeout=wait_s, poll_latency=0.05)
    except ContractLogicError as error:
        raise refusal(call.what, error) from error
    except Web3RPCError as error:
        raise RefusedError(
            f"{call.what} was refused by the RPC: {error.user_message or error.message}; "
            f"see that {account.address} has ether for the gas"
        ) from error
    except TimeExhausted as error:
        raise UnreachableError(
            f"{call.what} was sent but no block took it within {wait_s:.0f} s; look for transaction "
            f"{Web3.to_hex(transaction_hash)} before you send it again"
        ) from error
    if receipt["status"] != 1:
        raise RefusedError(f"{call.what} failed on chain; look at transaction {Web3.to_hex(transaction_hash)}")
    return receipt


def refusal(what: str, error: ContractLogicError) -> RefusedError:
    """The contract's refusal in words."""
    data: Any = error.data
    reason = explain_revert(data) if isinstance(data, (str, bytes)) else None
    return RefusedError(f"{what} was refused by the contract: {reason or error.message or 'no reason given'}")
