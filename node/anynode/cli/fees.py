"""What a transaction may cost its sender, asked before anything is signed, and what it has cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from web3 import Web3
    from web3.types import TxReceipt

    from anynode_contracts.calls import Call


def fee_wei_max(w3: Web3, call: Call, sender: str, more_gas: int = 0) -> int:
    """The most that sending ``call`` may cost, with ``more_gas`` for what follows it.

    Raises ``RefusedError`` if the contract would refuse it.
    """
    from anynode_contracts.calls import build_transaction

    transaction = build_transaction(w3, call, sender)
    return (int(transaction["gas"]) + more_gas) * int(transaction["maxFeePerGas"])


def affordable_fee_wei(w3: Web3, call: Call, sender: str, more_gas: int = 0) -> int:
    """The same. Raises ``UserError`` if the sender does not have so much ether."""
    fee_wei, balance_wei = fee_wei_max(w3, call, sender, more_gas), w3.eth.get_balance(w3.to_checksum_address(sender))
    if balance_wei < fee_wei:
        raise UserError(
            f"{sender} has {show_wei(balance_wei)} ETH and this may cost {show_wei(fee_wei)} ETH of gas; send it some"
        )
    return fee_wei


def receipt_facts(receipt: TxReceipt) -> dict[str, str]:
    """The hash of a transaction and what it has cost, for --json."""
    fee_wei = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    return {"transaction": "0x" + bytes(receipt["transactionHash"]).hex(), "fee_wei": str(fee_wei)}
