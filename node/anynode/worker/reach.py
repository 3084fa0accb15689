"""How a member is reached by the others: where it listens, what it announces, through which relays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from anynode.swarm.reachability import Way, is_public
from anynode.swarm.settings import DaemonSettings

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 (a home listens where its router forwards to)


@dataclass(frozen=True, slots=True)
class Reach:
    """``host`` None: on this machine only if the network is, else on all addresses. ``announce`` are addresses at
    which others reach this node though it does not know them (a forwarded port); ``relays`` those to use instead of
    the initial peers. ``client_only`` opens no port: the node calls others, reduces nothing and forgoes that pay."""

    host: str | None = None
    port: int = 0
    announce: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    upnp: bool = True
    client_only: bool = False

    def listen_host(self, initial_peers: Iterable[str]) -> str:
        """The address to listen on in a network with these initial peers."""
        if self.host is not None:
            return self.host
        local = all("/127." in address or "/ip6/::1/" in address for address in initial_peers)
        return LOOPBACK if local else EVERYWHERE

    def on_this_machine(self, initial_peers: Iterable[str]) -> bool:
        return self.listen_host(initial_peers) == LOOPBACK

    def may_reduce(self, way: Way, initial_peers: Iterable[str]) -> bool:
        """Whether others can hand this node chunks. Through a relay they cannot: hivemind's daemon ends a relayed
        connection after 128 KiB, less than a chunk. Where the initial peers have private addresses, so may this."""
        if self.client_only:
            return False
        return way is Way.DIRECT or not any(is_public(address) for address in initial_peers)

    def daemon_settings(self) -> DaemonSettings:
        if self.client_only:
            return DaemonSettings(listens=False, dht_mode="client", relay_service=False)
        return DaemonSettings(
            announce=self.announce, trusted_relays=self.relays, nat_port_map=None if self.upnp else False
        )


def way_in_words(way: Way, addresses: Iterable[str], port: int) -> str:
    """What to tell the person at the terminal; ``addresses`` are those the node announces."""
    found = list(addresses)
    match way:
        case Way.DIRECT:
            own = next(address for address in found if is_public(address) and "/p2p-circuit" not in address)
            return f"others reach this node at {own}"
        case Way.RELAY:
            relay = next(address for address in found if "/p2p-circuit" in address).partition("/p2p-circuit")[0]
            return (
                f"others reach this node through the relay {relay}, which carries no chunks, so it reduces nothing;"
                " forward a port (--port and --announce) or allow UPnP to earn that share too"
            )
        case Way.NONE:
            return "client only: this node opens no port; it calls others, reduces nothing and forgoes that share"
        case Way.LOCAL:
            listening = f"TCP port {port}" if port else "a fixed TCP port (--port)"
            return (
                f"nobody outside reaches this node yet: forward {listening} in the router and give --announce, allow"
                " UPnP, or name a relay with --relay; or start it with --client-only"
            )
