"""`anynode verifier watch`: look at every root that waits on the chain, and bring the proof against a wrong one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anynode.cli.api import Api
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
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import RefusedError, UnreachableError, UserError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from anynode_contracts.clients import DistributorClient
    from anynode_contracts.networks import Network
    from anynode_verifier.watching import Sight

PAUSE_S = 60.0
LEDGER_BYTES_MAX = 1 << 30


@click.command()
@network_option
@wallet_option
@password_option
@click.option("--once", is_flag=True, help="Look once. Exit code 4 if the root that waits is not what it should be.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="A public ledger (ledger.json). Default: ask the network's API each time.",
)
@reports
def watch(
    output: Output, *, network: str, wallet: str, password_file: Path | None, once: bool, ledger: Path | None
) -> None:
    """Watch the reward roots of a network, and end a wrong one while it still waits.

    Each root that waits on the chain is compared with the published ledger. One that lowers what a node has earned, or
    names a node twice, is ended by a proof on chain; the wallet that brings it is paid the bounty. Any other doubt is
    told, for the guardian. Ctrl-C stops it.

    \b
    Example:
      anynode verifier watch --network development --wallet miner
    """
    known = load_network(network)
    path = chosen_wallet(wallet)
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))

    from anynode_contracts.clients import DistributorClient
    from anynode_verifier.watching import look

    distributor = DistributorClient(chain_of(known), known.distributor)
    told = ""
    while True:
        try:
            sight = look(distributor, known, _ledger(known, ledger))
            if sight.root != told or once:
                told = sight.root
                output.say(
                    f"Batch {sight.batch}, root {sight.root[:16]}…: {sight.words}" if sight.root else sight.words
                )
                _act(output, distributor, account, sight, once=once)
        except UnreachableError:
            if once:
                raise
        if once:
            return
        time.sleep(PAUSE_S)


def _act(output: Output, distributor: DistributorClient, account: LocalAccount, sight: Sight, *, once: bool) -> None:
    """Bring the proof, if there is one. Raises ``RefusedError`` for a root that only the guardian can stop."""
    from anynode_contracts.calls import send

    facts: dict[str, Any] = {"batch": sight.batch, "root": sight.root, "seen": sight.what}
    if sight.proof is not None:
        receipt = send(distributor.w3, account, sight.proof)
        transaction = "0x" + bytes(receipt["transactionHash"]).hex()
        output.say(f"The root is ended; {show_wei(distributor.bounty_wei())} ANY were paid (transaction {transaction})")
        output.result(facts | {"transaction": transaction})
    elif sight.what == "doubtful" and once:
        raise RefusedError(f"the root of batch {sight.batch} is doubtful: {sight.words}")
    else:
        output.result(facts)


def _ledger(network: Network, file: Path | None) -> Any:
    """A public ledger, parsed."""
    from anynode_contracts.canonical import parse_json

    try:
        if file is not None:
            return parse_json(file.read_bytes())
        return parse_json(Api(network).ask("GET", "/v1/ledger", bytes_max=LEDGER_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise UserError("the public ledger is no JSON; fetch it again with `anynode result`") from error
