"""Starts a verifier: its sockets first, so that a taken port is told before anything else begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from eth_account.signers.local import LocalAccount

from anynode.swarm.frames import short
from anynode.swarm.peer import Peer
from anynode.swarm.reachability import listening_place
from anynode.swarm.settings import DaemonSettings
from anynode.worker.directory import directory_rules
from anynode.worker.early import EarlyTrainers
from anynode_contracts.errors import UnreachableError, UserError
from anynode_contracts.networks import Network, check_chain, connect
from anynode_verifier import http_server
from anynode_verifier.service import Verifier, VerifierSettings


async def serve(
    settings: VerifierSettings,
    network: Network,
    identity: Path,
    *,
    node: LocalAccount,
    poster: LocalAccount | None,
    slasher: Callable[[], LocalAccount] | None,
    host: str | None,
    api_url: str,
    early: EarlyTrainers,
    say: Callable[[str], None],
    on_ready: Callable[[Verifier], None],
) -> None:
    """Run the verifier until cancelled. Its peer is a relay for members behind NAT. ``on_ready`` gets the service
    before it serves, ``early`` has training processes that were started before. With ``host`` its peer listens there
    and announces what the network file says. Raises ``UserError`` for a taken port or a wrong chain."""
    w3 = connect(network.rpc_url)
    try:
        await asyncio.to_thread(check_chain, w3, network)
    except UnreachableError as error:
        say(f"{error}. Work goes on; registering and posting wait for it.")
    settings.folder.mkdir(parents=True, exist_ok=True)
    listening = http_server.bind(api_url)
    named, port = listening_address(network, node.address)
    announce = (f"/ip{6 if ':' in named else 4}/{named}/tcp/{port}",) if host else ()
    peer = await Peer.start(
        identity,
        port,
        host=host or named,
        state_dir=settings.folder / "daemon",
        network=network.name,
        settings=DaemonSettings(auto_relay=False, announce=announce),
        record_rules=directory_rules(network),
        say=say,
    )
    peer.conduct.on_drop = lambda drop: say(
        f"peer {short(drop.peer_id)} is dropped for a while: it keeps sending {drop.offence} ({drop.sentence})"
    )
    async with peer:
        service = Verifier(settings, network, w3, peer, node=node, poster=poster, slasher=slasher, early=early)
        on_ready(service)
        say(f"Verifier {node.address} of network {network.name}")
        say(f"Peers reach it at {peer.addresses[0]}, its API is at {api_url}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(peer.watch())
            tasks.create_task(service.run())
            tasks.create_task(http_server.serve(service.http_app(), listening))


def listening_address(network: Network, verifier: str) -> tuple[str, int]:
    """Where a verifier's peer listens: the initial peer in its place of the network file."""
    place = network.verifiers.index(verifier)
    if place >= len(network.initial_peers):
        raise UserError(f"network {network.name} names no initial peer for verifier {verifier}; correct its file")
    return listening_place(network.initial_peers[place])
