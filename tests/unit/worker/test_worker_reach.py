"""Where a node listens, whether it may reduce, and what it tells of how others reach it."""

from __future__ import annotations

import pytest

from anynode.swarm.reachability import Way
from anynode.worker.reach import EVERYWHERE, LOOPBACK, Reach, way_in_words

PEER = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
HERE = (f"/ip4/127.0.0.1/tcp/8421/p2p/{PEER}",)
OFFICE = (f"/ip4/192.168.7.2/tcp/8421/p2p/{PEER}",)
INTERNET = (f"/ip4/9.0.0.2/tcp/8421/p2p/{PEER}", f"/dns4/node.example/tcp/8421/p2p/{PEER}")


def test_a_node_listens_on_this_machine_only_where_its_network_is() -> None:
    assert Reach().listen_host(HERE) == LOOPBACK and Reach().on_this_machine(HERE)
    for initial in (OFFICE, INTERNET, (*HERE, *INTERNET)):
        assert Reach().listen_host(initial) == EVERYWHERE and not Reach().on_this_machine(initial)
    assert Reach(host="192.0.2.1").listen_host(HERE) == "192.0.2.1"


@pytest.mark.parametrize("way", list(Way))
def test_who_is_reached_directly_reduces(way: Way) -> None:
    """On the Internet, only who has a way in besides a relay; on one machine or in one office, everybody."""
    assert Reach().may_reduce(way, INTERNET) == (way is Way.DIRECT)
    assert Reach().may_reduce(way, HERE) and Reach().may_reduce(way, OFFICE)
    assert not Reach(client_only=True).may_reduce(way, HERE)


def test_a_client_opens_nothing_and_a_home_uses_what_it_is_told() -> None:
    client = Reach(client_only=True, port=4001).daemon_settings()
    assert (client.listens, client.dht_mode, client.relay_service) == (False, "client", False)
    assert client.relays(INTERNET) == ()
    home = Reach(announce=("/ip4/9.0.0.9/tcp/4001",), relays=(INTERNET[0],), upnp=False).daemon_settings()
    assert home.announce == ("/ip4/9.0.0.9/tcp/4001",) and home.nat_port_map is False
    assert Reach().daemon_settings().nat_port_map is None  # wherever others than this machine are


@pytest.mark.parametrize(
    ("way", "addresses", "words"),
    [
        (Way.DIRECT, ("/ip4/192.168.1.2/tcp/1", "/ip4/9.0.0.9/tcp/4001"), "at /ip4/9.0.0.9/tcp/4001"),
        (Way.RELAY, (f"{INTERNET[0]}/p2p-circuit/p2p/{PEER}",), f"through the relay {INTERNET[0]}, which carries no"),
        (Way.LOCAL, ("/ip4/192.168.1.2/tcp/1",), "forward TCP port 4001 in the router and give --announce"),
        (Way.NONE, (), "client only: this node opens no port"),
    ],
)
def test_every_way_is_told_in_a_sentence(way: Way, addresses: tuple[str, ...], words: str) -> None:
    assert words in way_in_words(way, addresses, 4001)
