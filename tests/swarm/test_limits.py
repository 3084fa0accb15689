"""Token buckets and the addresses and reasons that people read."""

from __future__ import annotations

import pytest

from anynode.swarm.frames import parse_error
from anynode.swarm.limits import PEERS_MAX, Rate, RateLimiter
from anynode.swarm.reachability import PeerAddress, libp2p_reason, nobody_reachable, parse_address
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


def test_reasons_are_short_and_remedies_fit_the_settings() -> None:
    message = (
        f"failed to dial {PEER}: all dials failed\n  * [/ip4/192.0.2.7/tcp/1] dial tcp4: connect: connection refused"
    )
    assert libp2p_reason(message) == "/ip4/192.0.2.7/tcp/1: connection refused"
    assert libp2p_reason(message, with_address=False) == "connection refused"
    assert libp2p_reason("routing: not found") == "nobody knows its address"
    tried = {f"/ip4/192.0.2.{number}/tcp/1": "no answer" for number in range(6)}
    assert "and 2 more; check that they run" in str(nobody_reachable(tried, loopback=True, auto_relay=False))
    assert "turn on automatic relays" in str(nobody_reachable(tried, loopback=False, auto_relay=False))
    assert "towards the relays" in str(nobody_reachable(tried, loopback=False, auto_relay=True))


def test_a_malformed_error_frame_is_an_error_of_its_own() -> None:
    for payload in (b"", b"{}", b'{"code":"X","retry_after_ms":0,"sentence":"s"}', b'{"code":"a","retry_after_ms":-1}'):
        assert "sent an unreadable error" in str(parse_error(payload, PEER))
