"""`anynode network bond`: pay in what the bounties for proofs of wrong reward roots are paid from."""

from __future__ import annotations

from pathlib import Path

import click

from anynode.cli.options import (
    chain_of,
    chosen_wallet,
    load_network,
    network_option,
    password,
    password_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.cli.paying import check_purse, pay_in
from anynode.wallet import keystore
from anynode.wallet.amounts import parse_tokens, show_wei


@click.command()
@click.argument("tokens")
@network_option
@wallet_option
@password_option
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def bond(output: Output, *, tokens: str, network: str, wallet: str, password_file: Path | None, dry_run: bool) -> None:
    """Pay TOKENS into the bond that bounties for proofs of wrong reward roots come from. They stay there.

    Anybody may. No root can be posted while the bond is less than one bounty, and each proof takes one bounty out.

    \b
    Example:
      anynode network bond 1000 --network sepolia.toml --wallet treasury --dry-run
      anynode network bond 1000 --network sepolia.toml --wallet treasury
    """
    from anynode_contracts.clients import DistributorClient

    amount_wei = parse_tokens(tokens)
    known = load_network(network)
    path = chosen_wallet(wallet)
    payer = keystore.read(path).address
    w3 = chain_of(known)
    distributor = DistributorClient(w3, known.distributor)
    bounty_wei = distributor.bounty_wei()
    call = distributor.build_bond(amount_wei)
    check_purse(output, w3, known, payer, pays_wei=amount_wei, call=call)
    facts = {"network": known.name, "payer": payer, "bounty_wei": str(bounty_wei)}
    if dry_run:
        output.say(f"Dry run: {show_wei(amount_wei)} ANY would be paid into the bond; nothing was sent.")
        output.result(facts | {"paid_wei": "0", "bond_wei": str(distributor.bond_wei())})
        return
    pay_in(w3, known, keystore.unlock(path, password(password_file, f"the wallet {path.stem}")), call, amount_wei)
    bond_wei = distributor.bond_wei()
    output.say(f"The bond is {show_wei(bond_wei)} ANY, a bounty {show_wei(bounty_wei)} ANY")
    output.result(facts | {"paid_wei": str(amount_wei), "bond_wei": str(bond_wei)})
