"""Paying tokens into a contract: whether the wallet has them, and gas; then it approves and the contract takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anynode.cli.output import Output
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3
    from web3.types import TxReceipt

    from anynode_contracts.calls import Call
    from anynode_contracts.networks import Network

#: More than registering, approving and paying take together.
_GAS_MAX = 400_000


def check_purse(output: Output, w3: Web3, network: Network, payer: str, *, pays_wei: int, call: Call) -> None:
    """Say what ``payer`` has. Raises ``UserError`` if its tokens do not suffice, or its ether for the gas."""
    from anynode_contracts.calls import build_transaction
    from anynode_contracts.clients import TokenClient

    tokens_wei = TokenClient(w3, network.token).balance_wei(payer)
    ether_wei = w3.eth.get_balance(w3.to_checksum_address(payer))
    fee_wei = _GAS_MAX * int(build_transaction(w3, call, payer, gas=_GAS_MAX)["maxFeePerGas"])
    if tokens_wei < pays_wei:
        raise UserError(
            f"{payer} has {show_wei(tokens_wei)} ANY and {show_wei(pays_wei)} ANY are to be paid; send it the rest"
        )
    if ether_wei < fee_wei:
        raise UserError(
            f"{payer} has {show_wei(ether_wei)} ETH and the gas may cost {show_wei(fee_wei)} ETH; send it some"
        )
    output.say(
        f"{payer} pays {show_wei(pays_wei)} of its {show_wei(tokens_wei)} ANY, and for gas at most {show_wei(fee_wei)} "
        f"of its {show_wei(ether_wei)} ETH"
    )


def pay_in(w3: Web3, network: Network, payer: LocalAccount, call: Call, amount_wei: int) -> TxReceipt:
    """Approve ``amount_wei`` for the contract of ``call``, which takes them."""
    from anynode_contracts.calls import send
    from anynode_contracts.clients import TokenClient

    send(w3, payer, TokenClient(w3, network.token).build_approve(call.to, amount_wei))
    return send(w3, payer, call)
