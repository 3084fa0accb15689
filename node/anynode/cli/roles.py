"""Who holds a role on a network: the wallets NETWORK-poster, NETWORK-verifier-2 and so on, and the verifiers' peers."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from anynode.cli.options import places
from anynode.wallet import keystore
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from anynode_contracts.networks import Network

#: Who does what on a network, each with a key of its own.
ROLES = ("owner", "poster", "guardian", "slasher", "arbiter", "verifier")


def role_name(role: str, number: int) -> str:
    """The first one of a role has its name, further ones a number beside it."""
    return role if number == 1 else f"{role}-{number}"


def role_path(network: str, role: str) -> Path:
    """The keystore of a role, which need not be there yet."""
    return keystore.wallet_path(places().wallets, f"{network}-{role}")


def role_wallet(network: str, role: str) -> Path:
    """The keystore of a role. Raises ``UserError`` if this machine has none."""
    path = role_path(network, role)
    if not path.exists():
        making = "`anynode verifier prepare`" if role.startswith("verifier") else f"`anynode wallet create {path.stem}`"
        raise UserError(
            f"no wallet {path}; bring it here with `anynode wallet import {path.stem}`, or make one: on a development"
            f" chain `anynode network init` does, for a public network {making}"
        )
    return path


def identity_path(network: str, role: str) -> Path:
    """The key of a verifier's peer, which need not be there yet."""
    return places().identities / f"{network}-{role}.key"


def ensure_peer(network: str, role: str, host: str, port: int) -> str:
    """The address of a verifier's peer, whose key is made if there is none. Raises ``UserError`` if it is no host."""
    from anynode.swarm.identity import ensure_identity

    try:
        family = ipaddress.ip_address(host).version
    except ValueError:
        raise UserError(f"{host[:80]!r} is not an IP address; write it like 203.0.113.5, without a port") from None
    return f"/ip{family}/{host}/tcp/{port}/p2p/{ensure_identity(identity_path(network, role))}"


def place_of(network: Network, verifier: str) -> int:
    """Where the network file lists a verifier, from 1. Raises ``UserError`` if it does not."""
    if verifier not in network.verifiers:
        raise UserError(f"{verifier} is no verifier of network {network.name}; check the network file")
    return network.verifiers.index(verifier) + 1
