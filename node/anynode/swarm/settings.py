"""Settings of the libp2p daemon, and the command line they become."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IDLE_TIMEOUT_S = 300
RELAYED_PER_PEER_MAX = 128


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """How the daemon listens, announces itself and gets through NAT.

    ``auto_nat``, ``nat_port_map`` (UPnP) and ``auto_relay`` of None mean: on, unless ``host`` is a loopback address.
    ``auto_relay`` makes a node behind NAT reachable through ``trusted_relays`` (the initial peers if empty) and,
    where both ends allow, by hole punching. With ``listens`` off it opens no port and only calls others.
    Addresses are libp2p multiaddrs.
    """

    host: str = "127.0.0.1"
    port: int = 0
    quic: bool = False
    dht_mode: Literal["server", "client", "auto"] = "server"
    listens: bool = True
    announce: tuple[str, ...] = ()
    auto_nat: bool | None = None
    nat_port_map: bool | None = None
    relay: bool = True
    relay_service: bool = True
    auto_relay: bool | None = None
    trusted_relays: tuple[str, ...] = ()
    force_reachability: Literal["public", "private"] | None = None

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def relays(self, initial_peers: tuple[str, ...]) -> tuple[str, ...]:
        """The relays through which others shall reach this node; none where it needs none."""
        wanted = not self.loopback if self.auto_relay is None else self.auto_relay
        return (self.trusted_relays or initial_peers) if wanted and self.listens else ()

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        family = "ip6" if ":" in self.host else "ip4"
        tcp = f"/{family}/{self.host}/tcp/{self.port}"
        return (tcp, f"/{family}/{self.host}/udp/{self.port}/quic") if self.quic else (tcp,)


def daemon_arguments(
    binary: Path,
    settings: DaemonSettings,
    *,
    identity_path: Path,
    control_path: Path,
    initial_peers: tuple[str, ...],
) -> list[str]:
    """The p2pd command line. Holds paths only, no secret.

    The initial peers are connected by us, not by the daemon (which would exit if none answered); they are passed
    only as relays.
    """
    distant = settings.listens and not settings.loopback
    auto_nat = distant if settings.auto_nat is None else settings.auto_nat
    nat_port_map = distant if settings.nat_port_map is None else settings.nat_port_map
    relays = settings.relays(initial_peers)
    flags: dict[str, str | int] = {
        "id": str(identity_path),
        "listen": f"/unix{control_path}",
        **({"hostAddrs": ",".join(settings.listen_addresses)} if settings.listens else {"noListenAddrs": 1}),
        {"server": "dhtServer", "client": "dhtClient", "auto": "dht"}[settings.dht_mode]: 1,
        "autonat": int(auto_nat),
        "natPortMap": int(nat_port_map),
        "connManager": 1,
        "tls": 1,
        "relay": int(settings.relay),
        "relayService": int(settings.relay_service and settings.listens),
        "relayMaxCircuits": RELAYED_PER_PEER_MAX,
        "autoRelay": int(bool(relays)),
        # Only the relays named: with discovery the daemon waits minutes for more candidates before it takes one.
        "relayDiscovery": 0,
        "idleTimeout": f"{IDLE_TIMEOUT_S}s",
    }
    if settings.announce:
        flags["announceAddrs"] = ",".join(settings.announce)
    if relays:
        flags["trustedRelays"] = ",".join(relays)
    if settings.force_reachability == "public":
        flags["forceReachabilityPublic"] = 1
    elif settings.force_reachability == "private":
        flags["forceReachabilityPrivate"] = 1
    return [str(binary), *(f"-{name}={value}" for name, value in flags.items())]
