"""Options that several commands have, with one meaning: the network, the wallet, the password."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anynode.cli.settings import Places, Settings
from anynode.wallet.keystore import check_new_password, read_password_file, wallet_path
from anynode_contracts.errors import UserError, invariant

if TYPE_CHECKING:
    from web3 import Web3

    from anynode_contracts.networks import Network

DEFAULT_NETWORK = "development"
DEFAULT_WALLET = "default"

_URL = re.compile(r"https?://\S{1,500}")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def network_option(command: _Command) -> _Command:
    return click.option(
        "--network",
        default=DEFAULT_NETWORK,
        show_default=True,
        envvar="ANYNODE_NETWORK",
        metavar="NAME|FILE",
        help="A network that `anynode network list` shows, or a network file (TOML).",
    )(command)


def wallet_option(command: _Command) -> _Command:
    return click.option(
        "--wallet",
        default=DEFAULT_WALLET,
        show_default=True,
        envvar="ANYNODE_WALLET",
        metavar="NAME|FILE",
        help="A wallet that `anynode wallet list` shows, or an encrypted keystore file.",
    )(command)


def password_option(command: _Command) -> _Command:
    return click.option(
        "--password-file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="ANYNODE_PASSWORD_FILE",
        help="File (mode 0600) whose first line is the wallet's password. Without it you are asked.",
    )(command)


def url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """What an option's value must look like: its ``callback``."""
    if not _URL.fullmatch(value):
        raise click.BadParameter(f"{value[:80]!r} is not a URL; write it like http://127.0.0.1:8545")
    return value


def url_or_none(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The same, for an option that need not be given."""
    return None if value is None else url(context, option, value)


def places() -> Places:
    """The folders that the running command works with."""
    settings = click.get_current_context().find_root().obj
    invariant(isinstance(settings, Settings), "a command ran before the settings were read")
    found: Places = settings.places
    return found


def network_path(name: str) -> Path:
    """The file of a network given by name or by path."""
    return _named(name, places().networks, ".toml")


def load_network(name: str) -> Network:
    """The network given by name or by path. Raises ``UserError`` if there is none."""
    from anynode_contracts.networks import Network  # here, because it brings web3, which is slow to import

    path = network_path(name)
    if not path.exists():
        raise UserError(
            f"no network file {path}; add the one that the network's operator gives out with `anynode network add "
            "FILE`, see `anynode network list`, or make a network of your own with `anynode network init`"
        )
    return Network.load(path)


def chain_of(network: Network) -> Web3:
    """A client for the network's chain, which has been seen to be the right one.

    Raises ``UnreachableError`` if nothing answers and ``UserError`` if it is another chain.
    """
    from anynode_contracts.networks import check_chain, connect

    w3 = connect(network.rpc_url)
    check_chain(w3, network)
    return w3


def checked_recipient(text: str) -> str:
    """An address that tokens may go to, with its checksum. Raises ``UserError`` for what is none, or mistyped."""
    from eth_utils.address import is_hex_address, to_checksum_address

    whole = text.startswith("0x") and is_hex_address(text) and int(text, 16) != 0
    mixed = text[2:] not in (text[2:].lower(), text[2:].upper())
    if not whole or (mixed and text != to_checksum_address(text)):
        raise UserError(
            f"{text[:60]!r} is no address to send tokens to; copy it again, it has 0x and 40 hexadecimal digits, and"
            " where capitals are mixed in they are its checksum"
        )
    return str(to_checksum_address(text))


def index_of(w3: Web3, network: Network, address: str) -> int:
    """The index of a node's key. Raises ``UserError`` if it is not registered."""
    from anynode_contracts.clients import RegistryClient

    index = RegistryClient(w3, network.registry).index_of(address)
    if index is None:
        raise UserError(
            f"{address} is not a registered node of network {network.name}; give the node's number with --index"
        )
    return index


def chosen_wallet(name: str) -> Path:
    """The keystore file of a wallet given by name or by path. Raises ``UserError`` if there is none."""
    path = Path(name) if _is_path(name) else wallet_path(places().wallets, name)
    if not path.is_file():
        raise UserError(f"no wallet {path}; see `anynode wallet list`, or make one with `anynode wallet create`")
    return path


def password(file: Path | None, what: str) -> str:
    """The password for ``what``, from a file or asked for. Raises ``UserError`` where nobody can be asked."""
    if file is not None:
        return read_password_file(file)
    return _ask(f"Password of {what}", confirm=False)


def new_password(file: Path | None, what: str) -> str:
    """A new password for ``what``; asked for twice. Raises ``UserError`` if it is too short."""
    chosen = read_password_file(file) if file is not None else _ask(f"New password for {what}", confirm=True)
    check_new_password(chosen)
    return chosen


def _ask(prompt: str, *, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise UserError(f"{prompt}: nobody can be asked here; give --password-file or ANYNODE_PASSWORD_FILE")
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


def _named(name: str, folder: Path, suffix: str) -> Path:
    return Path(name) if _is_path(name) else folder / f"{name}{suffix}"


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".toml", ".json"))
