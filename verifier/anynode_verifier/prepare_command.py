"""`anynode verifier prepare`: the wallet and the peer identity of a verifier, before its network has a file."""

from __future__ import annotations

import re
from pathlib import Path

import click

from anynode.cli.options import new_password, password_option
from anynode.cli.output import Output, reports
from anynode.cli.roles import ensure_peer, identity_path, role_name, role_path
from anynode.wallet import keystore
from anynode_contracts.errors import UserError
from anynode_verifier.options import number_option

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@click.command()
@click.argument("name", metavar="NETWORK")
@number_option
@click.option("--host", required=True, help="IP address at which peers reach this verifier.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8421, show_default=True, help="TCP port of the verifier's peer."
)
@password_option
@reports
def prepare(output: Output, *, name: str, number: int, host: str, port: int, password_file: Path | None) -> None:
    """Make the wallet and the peer identity of a verifier of NETWORK, a public one that need not have a file yet.

    What is there already is kept and shown. The address and the peer go into the network's file: see `anynode network
    write`. On a development chain `anynode network init` does all of this.

    \b
    Example:
      anynode verifier prepare sepolia --host 203.0.113.5
      anynode verifier prepare sepolia --number 2 --host 203.0.113.6
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name[:80]!r} is not a network name; take the one in the settings of the deployment")
    role = role_name("verifier", number)
    path = role_path(name, role)
    peer = ensure_peer(name, role, host, port)
    if path.exists():
        made = keystore.read(path)
    else:
        chosen = new_password(password_file, f"the wallets of network {name}")
        made = keystore.store(path, keystore.new_account(), chosen)
    identity = identity_path(name, role)
    output.say(f"Wallet {made.name}: {made.address}, encrypted in {made.path}")
    output.say(f"Peer identity: {identity}")
    output.say(f"For `anynode network write`: --verifier {made.address} --peer {peer}")
    output.result(
        {
            "network": name,
            "number": number,
            "wallet": made.name,
            "address": made.address,
            "path": str(made.path),
            "identity": str(identity),
            "peer": peer,
        }
    )
