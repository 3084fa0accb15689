"""Addresses of peers, and what to say when one cannot be reached."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from anynode.swarm.frames import one_sentence, short
from anynode_contracts.errors import UnreachableError, UserError

_ADDRESS = re.compile(r"(/[!-~]{1,400})/p2p/([1-9A-HJ-NP-Za-km-z]{30,80})")
_LISTENING = re.compile(r"/ip[46]/(?P<host>[^/\s]+)/tcp/(?P<port>\d{1,5})/p2p/[1-9A-HJ-NP-Za-km-z]{30,80}")
_HOST = re.compile(r"/(ip4|ip6|dns|dns4|dns6|dnsaddr)/([^/]+)/")
_DIAL = re.compile(r"\*\s*\[([^\]]+)\]\s*([^*]+)")
REASONS_MAX = 4

_REASONS = (
    ("connection refused", "connection refused"),
    ("i/o timeout", "no answer in time"),
    ("no route to host", "no route to it"),
    ("network is unreachable", "no network"),
    ("dial backoff", "no answer a moment ago"),
    ("no addresses", "nobody knows its address"),
    ("routing: not found", "nobody knows its address"),
    ("failed to find any peer", "nobody knows its address"),
)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """``transport`` is the multiaddr up to the final ``/p2p/<peer id>``."""

    transport: str
    peer_id: str


def parse_address(text: str) -> PeerAddress:
    """Parse ``/ip4/192.0.2.7/tcp/4001/p2p/Qm…``. Raises ``UserError`` if it is none."""
    from hivemind.utils.multiaddr import Multiaddr  # noqa: PLC0415 (seconds to import)

    match = _ADDRESS.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError("form")
        Multiaddr(text.strip())
    except Exception as error:  # the parser raises whatever its parts raise
        raise UserError(
            f"{one_sentence(text)!r} is not a peer's address; write it as /ip4/192.0.2.7/tcp/4001/p2p/PEER_ID,"
            " the way that peer prints it at its start"
        ) from error
    return PeerAddress(transport=match.group(1), peer_id=match.group(2))


def listening_place(text: str) -> tuple[str, int]:
    """The host and port of a peer that listens itself, ``/ip4/…/tcp/…/p2p/…``. Raises ``UserError`` for another."""
    try:
        found = _LISTENING.fullmatch(text)
        if found is None:
            raise ValueError("form")
        host, port = ipaddress.ip_address(found["host"]), int(found["port"])
        if not 0 < port < 1 << 16:
            raise ValueError("port")
    except ValueError as error:
        raise UserError(
            f"{one_sentence(text)[:100]!r} is no address that a verifier's peer listens at; write it as"
            " /ip4/192.0.2.7/tcp/8421/p2p/PEER_ID, the way `anynode verifier prepare` prints it"
        ) from error
    return str(host), port


def check_announced(text: str) -> None:
    """Raise ``UserError`` unless ``text`` is where a node can be reached, without a peer id: ``/ip4/…/tcp/…``."""
    from hivemind.utils.multiaddr import Multiaddr  # noqa: PLC0415 (seconds to import)

    try:
        if "/p2p/" in text or _HOST.match(text) is None:
            raise ValueError("form")
        Multiaddr(text)
    except Exception as error:  # the parser raises whatever its parts raise
        raise UserError(
            f"{one_sentence(text)[:100]!r} cannot be announced; write it as /ip4/203.0.113.5/tcp/4001 or"
            " /dns4/NAME/tcp/4001, without a peer id"
        ) from error


def libp2p_reason(message: str, *, with_address: bool = True) -> str:
    """The short form of libp2p's account of a failed connection: each address tried, with its reason."""
    dials = _DIAL.findall(message)[:REASONS_MAX]
    if dials:
        return ", ".join(
            f"{address}: {_plain(reason)}" if with_address or len(dials) > 1 else _plain(reason)
            for address, reason in dials
        )
    return _plain(message)


def unreachable_peer(peer_id: str, message: str) -> UnreachableError:
    return UnreachableError(
        f"peer {short(peer_id)} cannot be reached ({libp2p_reason(message)}); check that it runs and try again"
    )


def nobody_reachable(
    tried: Mapping[str, str], relays: Mapping[str, str], *, loopback: bool, behind_nat: bool
) -> UnreachableError:
    """``tried`` maps each initial peer's address to why it failed, ``relays`` likewise, empty for one that answered."""
    parts = [f"no initial peer can be reached: tried {_listed(tried)}"]
    if relays:
        parts.append(f"relays: {_listed(relays)}")
    if behind_nat:
        parts.append("this machine has only private addresses, so it is behind a router")
    if loopback:
        remedy = "check that they run and that the addresses are right"
    elif any(not reason for reason in relays.values()):
        remedy = "the line works, so ask the network's operator whether the initial peers run"
    else:
        remedy = (
            "check the line and that the firewall lets TCP out to these addresses, compare them with the operator's,"
            " or name a relay that answers with --relay"
        )
    return UnreachableError(f"{'; '.join(parts)}; {remedy}")


class Way(enum.StrEnum):
    """How others reach this node."""

    DIRECT = "direct"
    RELAY = "relay"
    LOCAL = "local"
    NONE = "none"


def way_in(addresses: Iterable[str]) -> Way:
    """How others reach a node that announces ``addresses``: at a public address, through a relay, only on its own
    network or machine, or not at all (it calls others, and is answered)."""
    found = list(addresses)
    relayed = [address for address in found if "/p2p-circuit" in address]
    own = [address for address in found if "/p2p-circuit" not in address]
    if any(is_public(address) for address in own):
        return Way.DIRECT
    if relayed:
        return Way.RELAY
    return Way.LOCAL if own else Way.NONE


def is_public(address: str) -> bool:
    """Whether a multiaddr begins with an IP address that is routed on the Internet, or with a name."""
    match = _HOST.match(address)
    if match is None:
        return False
    if match.group(1).startswith("dns"):
        return True
    try:
        return ipaddress.ip_address(match.group(2)).is_global
    except ValueError:
        return False


def _listed(tried: Mapping[str, str]) -> str:
    shown = ", ".join(f"{address} ({reason or 'answers'})" for address, reason in list(tried.items())[:REASONS_MAX])
    return f"{shown} and {len(tried) - REASONS_MAX} more" if len(tried) > REASONS_MAX else shown


def _plain(message: str) -> str:
    for phrase, words in _REASONS:
        if phrase in message:
            return words
    return one_sentence(message.strip())[:160]
