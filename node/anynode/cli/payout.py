"""`anynode payout`: where a registered node's rewards go, and a change of that, which waits before it counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anynode.cli.fees import affordable_fee_wei, receipt_facts
from anynode.cli.options import (
    chain_of,
    checked_recipient,
    chosen_wallet,
    index_of,
    load_network,
    network_option,
    password,
    password_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode.wallet.payouts import PayoutView, payout_view, where_rewards_go, why_not_changed, why_not_withdrawn
from anynode.wallet.times import show_time
from anynode_contracts.errors import UserError, invariant

if TYPE_CHECKING:
    from anynode_contracts.calls import Call
    from anynode_contracts.clients import RegistryClient

_index_option = click.option(
    "--index", type=click.IntRange(1, 2**32 - 1), help="The node's index. Default: that of the wallet."
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")


@click.group()
def payout() -> None:
    """Where a node's rewards go: show it, change it, withdraw a change that waits.

    \b
    Example:
      anynode payout show --wallet miner
      anynode payout change 0x… --wallet miner
    """


@payout.command()
@network_option
@wallet_option
@_index_option
@reports
def show(output: Output, *, network: str, wallet: str, index: int | None) -> None:
    """Show where a node's rewards go, and a change that waits, with the time from which it counts.

    \b
    Example:
      anynode payout show --network development --wallet miner
    """
    _, view = _registered(network, wallet, index)
    output.say(f"Node {view.index}, {view.node}: {where_rewards_go(view)}")
    output.result(_facts(view))


@payout.command()
@click.argument("address")
@network_option
@wallet_option
@password_option
@_index_option
@_dry_run_option
@reports
def change(
    output: Output,
    *,
    address: str,
    network: str,
    wallet: str,
    password_file: Path | None,
    index: int | None,
    dry_run: bool,
) -> None:
    """Have a node's rewards go to ADDRESS, 48 hours from now; until then `anynode payout cancel` withdraws it.

    The node's own key may ask for it, and the account that is paid now (with --index). A change that waits already is
    replaced, and its 48 hours begin anew. What was earned and is not claimed by then goes to ADDRESS too, as soon as a
    later root is active.

    \b
    Example:
      anynode payout change 0x… --network development --wallet miner --dry-run
      anynode payout change 0x… --network development --wallet miner
    """
    new = checked_recipient(address)
    registry, view = _registered(network, wallet, index)
    sender = keystore.read(chosen_wallet(wallet)).address
    if why_not := why_not_changed(view, sender, new):
        raise UserError(why_not)
    call = registry.build_request_payout_change(view.index, new)
    fee_wei = affordable_fee_wei(registry.w3, call, sender)
    about_s = registry.w3.eth.get_block("latest")["timestamp"] + registry.payout_change_delay_s()
    output.say(f"Node {view.index}: {where_rewards_go(view)}")
    replaced = f", in the place of the change to {view.waiting[0]}" if view.waiting else ""
    output.say(f"They will go to {new} from about {show_time(about_s)} on{replaced}.")
    output.say("Until then the node's key and its payout account can withdraw that with `anynode payout cancel`.")
    if dry_run:
        _say_unsent(output, view, fee_wei)
        return
    sent = _send(registry, wallet, password_file, call)
    changed = _view(registry, view.index)
    invariant(changed.waiting is not None and changed.waiting[0] == new, "a change that was asked for waits")
    output.say(f"Asked for in transaction {sent['transaction']}: {where_rewards_go(changed)}")
    output.result(_facts(changed) | {"sent": True} | sent)


@payout.command()
@network_option
@wallet_option
@password_option
@_index_option
@_dry_run_option
@reports
def cancel(
    output: Output, *, network: str, wallet: str, password_file: Path | None, index: int | None, dry_run: bool
) -> None:
    """Withdraw the change of a node's payout address that waits. The node's key may, and its payout account (--index).

    \b
    Example:
      anynode payout cancel --network development --wallet miner
    """
    registry, view = _registered(network, wallet, index)
    sender = keystore.read(chosen_wallet(wallet)).address
    if why_not := why_not_withdrawn(view, sender):
        raise UserError(why_not)
    call = registry.build_cancel_payout_change(view.index)
    fee_wei = affordable_fee_wei(registry.w3, call, sender)
    output.say(f"Node {view.index}: {where_rewards_go(view)}")
    if dry_run:
        _say_unsent(output, view, fee_wei)
        return
    sent = _send(registry, wallet, password_file, call)
    kept = _view(registry, view.index)
    output.say(f"Withdrawn in transaction {sent['transaction']}: {where_rewards_go(kept)}")
    output.result(_facts(kept) | {"sent": True} | sent)


def _registered(network: str, wallet: str, index: int | None) -> tuple[RegistryClient, PayoutView]:
    """The network's registry, and the node that has ``index`` or whose key is the wallet's.

    Raises ``UserError`` if it is not registered.
    """
    from anynode_contracts.clients import RegistryClient

    known = load_network(network)
    sender = None if index else keystore.read(chosen_wallet(wallet)).address
    w3 = chain_of(known)
    registry = RegistryClient(w3, known.registry)
    return registry, _view(registry, index or index_of(w3, known, str(sender)))


def _view(registry: RegistryClient, index: int) -> PayoutView:
    view = payout_view(registry, index)
    if view is None:
        raise UserError(
            f"no node is registered with the index {index}; the network has {registry.count()} of them, see --index"
        )
    return view


def _send(registry: RegistryClient, wallet: str, password_file: Path | None, call: Call) -> dict[str, str]:
    from anynode_contracts.calls import send

    path = chosen_wallet(wallet)
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    return receipt_facts(send(registry.w3, account, call))


def _say_unsent(output: Output, view: PayoutView, fee_wei: int) -> None:
    output.say(f"Dry run: this would cost at most {show_wei(fee_wei)} ETH of gas, and nothing was sent.")
    output.result(_facts(view) | {"sent": False, "fee_wei_max": str(fee_wei)})


def _facts(view: PayoutView) -> dict[str, Any]:
    waiting = None if view.waiting is None else {"payout": view.waiting[0], "effective_at_s": view.waiting[1]}
    return {"index": view.index, "node": view.node, "payout": view.payout, "waiting": waiting}
