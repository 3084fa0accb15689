"""`anynode wallet`: create, import, export, list, the balance of a wallet on a network, and tokens from its faucet."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from anynode.cli.options import (
    DEFAULT_WALLET,
    chain_of,
    checked_recipient,
    chosen_wallet,
    load_network,
    network_option,
    new_password,
    password,
    password_option,
    places,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError

_KEY_BYTES_MAX = 256


@click.group()
def wallet() -> None:
    """Encrypted wallets: create, import, export, list, balance, faucet.

    \b
    Example:
      anynode wallet create miner
      anynode wallet balance --wallet miner --network development
    """


@wallet.command()
@click.argument("name", default=DEFAULT_WALLET)
@password_option
@reports
def create(output: Output, name: str, password_file: Path | None) -> None:
    """Make a new key and store it encrypted.

    The password cannot be recovered: keep it, and keep a copy of the file.

    \b
    Example:
      anynode wallet create miner
    """
    path = keystore.wallet_path(places().wallets, name)
    keystore.refuse_existing(path)
    chosen = new_password(password_file, f"the wallet {name}")
    _report(output, keystore.store(path, keystore.new_account(), chosen))


@wallet.command(name="import")
@click.argument("name")
@click.option(
    "--keystore",
    "keystore_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An encrypted keystore (version 3) of other software; its password stays.",
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file (mode 0600) with a private key of 64 hexadecimal digits.",
)
@password_option
@reports
def import_(
    output: Output, name: str, keystore_file: Path | None, key_file: Path | None, password_file: Path | None
) -> None:
    """Take over a key: from a keystore, from a file, or typed in (hidden).

    A private key is never taken from the command line, where other users and the shell's history see it.

    \b
    Example:
      anynode wallet import miner --keystore UTC--2026-01-01--abc.json
    """
    from eth_account import Account

    path = keystore.wallet_path(places().wallets, name)
    keystore.refuse_existing(path)
    if keystore_file is not None and key_file is not None:
        raise UserError("give --keystore or --key-file, not both")
    if keystore_file is not None:
        chosen = password(password_file, str(keystore_file))
        account = keystore.unlock(keystore_file, chosen)
    else:
        try:
            account = Account.from_key(_private_key(key_file))
        except ValueError:
            raise UserError("that is not a private key; it has 64 hexadecimal digits") from None
        chosen = new_password(password_file, f"the wallet {name}")
    _report(output, keystore.store(path, account, chosen))


@wallet.command()
@click.argument("name")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@password_option
@reports
def export(output: Output, name: str, out: Path, password_file: Path | None) -> None:
    """Copy a wallet to FILE, encrypted as it is (keystore version 3), once its password has opened it.

    Any Ethereum software reads the copy, with the same password. The key itself is never written.

    \b
    Example:
      anynode wallet export miner miner-backup.json
    """
    kept = keystore.read(chosen_wallet(name))
    keystore.refuse_existing(out)
    keystore.copy(kept, password(password_file, f"the wallet {kept.name}"), out)
    output.say(f"Wallet {kept.name}: {kept.address}, encrypted in {out}")
    output.result({"name": kept.name, "address": kept.address, "path": str(out)})


@wallet.command(name="list")
@reports
def list_(output: Output) -> None:
    """Show the wallets of this user.

    \b
    Example:
      anynode wallet list --json
    """
    found = keystore.list_wallets(places().wallets)
    if found:
        output.table(("wallet", "address"), [(item.name, item.address) for item in found])
    else:
        output.say("No wallet yet; make one with `anynode wallet create`.")
    output.result({"wallets": [_facts(item) for item in found]})


@wallet.command()
@click.argument("address", required=False)
@wallet_option
@network_option
@reports
def balance(output: Output, address: str | None, wallet: str, network: str) -> None:
    """Show the tokens and the ether of a wallet or an ADDRESS.

    \b
    Example:
      anynode wallet balance --wallet miner --network development
    """
    from eth_utils.address import is_hex_address, to_checksum_address

    from anynode_contracts.clients import TokenClient

    if address is not None and not is_hex_address(address):
        raise UserError(f"{address[:60]!r} is not an address; it has 0x and 40 hexadecimal digits")
    asked = to_checksum_address(address) if address else keystore.read(chosen_wallet(wallet)).address
    known = load_network(network)
    w3 = chain_of(known)
    tokens_wei = TokenClient(w3, known.token).balance_wei(asked)
    ether_wei = w3.eth.get_balance(to_checksum_address(asked))
    output.say(f"{asked} on {known.name}: {show_wei(tokens_wei)} ANY, {show_wei(ether_wei)} ETH")
    output.result({"address": asked, "network": known.name, "tokens_wei": str(tokens_wei), "ether_wei": str(ether_wei)})


@wallet.command()
@click.argument("address", required=False)
@wallet_option
@network_option
@password_option
@reports
def faucet(output: Output, address: str | None, wallet: str, network: str, password_file: Path | None) -> None:
    """Get tokens from a development network's faucet, for the wallet or for ADDRESS, once a day.

    \b
    Example:
      anynode wallet faucet --wallet owner --network development
    """
    from anynode_contracts.calls import send
    from anynode_contracts.clients import FaucetClient

    recipient = None if address is None else checked_recipient(address)
    path = chosen_wallet(wallet)
    to = recipient or keystore.read(path).address
    known = load_network(network)
    if not known.faucet:
        raise UserError(f"network {known.name} has no faucet: only development networks do; buy or earn tokens there")
    w3 = chain_of(known)
    client = FaucetClient(w3, known.faucet)
    send(w3, keystore.unlock(path, password(password_file, f"the wallet {path.stem}")), client.build_give(to))
    amount_wei = client.amount_wei()
    output.say(f"{to} was given {show_wei(amount_wei)} ANY")
    output.result({"address": to, "amount_wei": str(amount_wei)})


def _private_key(file: Path | None) -> str:
    if file is not None:
        return keystore.read_secret(file, "key file", _KEY_BYTES_MAX).strip()
    if not sys.stdin.isatty():
        raise UserError("no key was given and nobody can be asked here; give --keystore or --key-file")
    return str(click.prompt("Private key", hide_input=True, err=True)).strip()


def _report(output: Output, made: keystore.Wallet) -> None:
    output.say(f"Wallet {made.name}: {made.address}, encrypted in {made.path}")
    output.result(_facts(made))


def _facts(item: keystore.Wallet) -> dict[str, str]:
    return {"name": item.name, "address": item.address, "path": str(item.path)}
