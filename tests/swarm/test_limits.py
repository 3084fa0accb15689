"""Token buckets and the addresses and reasons that people read."""

from __future__ import annotations

import pytest

from anynode.swarm.frames import parse_error
from anynode.swarm.limits import PEERS_MAX, Rate, RateLimiter
from anynode.swarm.reachability import (
    PeerAddress,
    Way,
    check_announced,
    is_public,
    libp2p_reason,
    nobody_reachable,
    parse_address,
    way_in,
)
from anynode_contracts.errors import UserError

PEER = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


def test_a_bucket_holds_its_burst_and_refills_at_its_rate() -> None:
    now_s = 0.0
    limiter = RateLimiter(Rate(per_s=2.0, burst=3), lambda: now_s)
    assert [limiter.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert limiter.take("b") == 0.0
    now_s = 0.5
    assert [limiter.take("a"), limiter.take("a")] == [0.0, 0.5]
    now_s = 1000.0
    assert [limiter.take("a") > 0.0 for _ in range(4)] == [False, False, False, True]
    for number in range(PEERS_MAX):  # the longest unused is forgotten: memory is bounded
        limiter.take(f"peer {number}")
    assert limiter.take("a") == 0.0


def test_addresses_are_parsed_or_refused_in_a_sentence() -> None:
    relayed = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}/p2p-circuit"
    assert parse_address(f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}") == PeerAddress("/ip4/192.0.2.7/tcp/4001", PEER)
    assert parse_address(f"{relayed}/p2p/{PEER}") == PeerAddress(relayed, PEER)
    for wrong in ("", "127.0.0.1:1", "/ip4/127.0.0.1/tcp/1", f"/ip4/999.0.0.1/tcp/1/p2p/{PEER}", f"/p2p/{PEER}\x1b[2J"):
        with pytest.raises(UserError, match="is not a peer's address; write it as") as error:
            parse_address(wrong)
        assert "\x1b" not in str(error.value)


def test_announced_addresses_are_checked() -> None:
    for right in ("/ip4/203.0.113.5/tcp/4001", "/dns4/node.example/tcp/4001", "/ip6/2600::1/tcp/4001"):
        check_announced(right)
    for wrong in ("203.0.113.5:4001", "/tcp/4001", "/ip4/nonsense/tcp/1", f"/ip4/203.0.113.5/tcp/1/p2p/{PEER}", ""):
        with pytest.raises(UserError, match="cannot be announced; write it as"):
            check_announced(wrong)


def test_reasons_are_short_and_remedies_fit_the_settings() -> None:
    message = (
        f"failed to dial {PEER}: all dials failed\n  * [/ip4/192.0.2.7/tcp/1] dial tcp4: connect: connection refused"
    )
    assert libp2p_reason(message) == "/ip4/192.0.2.7/tcp/1: connection refused"
    assert libp2p_reason(message, with_address=False) == "connection refused"
    assert libp2p_reason("routing: not found") == "nobody knows its address"
    tried = {f"/ip4/192.0.2.{number}/tcp/1": "no answer" for number in range(6)}
    here = str(nobody_reachable(tried, {}, loopback=True, behind_nat=False))
    assert "and 2 more; check that they run" in here and "router" not in here
    relay = "/ip4/192.0.2.9/tcp/1"
    home = str(nobody_reachable(tried, {relay: "no answer in time"}, loopback=False, behind_nat=True))
    assert f"relays: {relay} (no answer in time); this machine has only private addresses" in home
    assert "name a relay that answers with --relay" in home
    online = str(nobody_reachable(tried, {relay: ""}, loopback=False, behind_nat=True))
    assert f"{relay} (answers)" in online and "ask the network's operator" in online


def test_how_others_reach_a_node_is_read_from_its_addresses() -> None:
    relayed = f"/ip4/9.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"
    private = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip6/fe80::1/tcp/1")
    assert way_in(()) is Way.NONE
    assert way_in(private) is Way.LOCAL
    assert way_in((*private, relayed)) is Way.RELAY
    for public in ("/ip4/9.0.0.1/tcp/1", "/dns4/node.example/tcp/1", "/ip6/2600::1/tcp/1"):
        assert way_in((*private, relayed, public)) is Way.DIRECT
    assert not is_public("/ip4/nonsense/tcp/1") and not is_public("/p2p/x")


def test_a_malformed_error_frame_is_an_error_of_its_own() -> None:
    for payload in (b"", b"{}", b'{"code":"X","retry_after_ms":0,"sentence":"s"}', b'{"code":"a","retry_after_ms":-1}'):
        assert "sent an unreadable error" in str(parse_error(payload, PEER))
