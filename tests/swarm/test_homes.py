"""Peers in homes behind NAT, each a process in a network namespace: reached through a relay, or only calling others.

Needs root on Linux, iproute2 and nftables; where these are missing the tests are skipped and say which.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "run_bench"))

from homes import Home, Homes

from anynode_contracts.errors import UserError

PROGRAM = Path(__file__).parent / "programs" / "home_peer.py"
PUBLIC, FIRST, SECOND, SHUT = range(4)
WAIT_LIMIT_S = 120.0  # a quiet machine needs a sixth of it: libp2p finds out about its router in 15 s
SHUT_DOWN = """
table ip shut {
    chain inward {
        type filter hook input priority filter
        iifname "line" ct state != { established, related } drop
    }
}
"""


class HomePeer:
    """A peer in a home. `ask` gives it an order and waits for the answer."""

    def __init__(self, home: Home, folder: Path, port: int, settings: dict[str, Any], *initial: str) -> None:
        folder.mkdir()
        host = home.address if home.address == home.public_address else "0.0.0.0"  # noqa: S104
        arguments = [str(folder), host, str(port), json.dumps(settings), *initial]
        self._log = (folder / "log").open("w")
        self._process = home.popen(
            [sys.executable, "-W", "ignore", str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        self.hello: dict[str, Any] = self._answer()
        self.peer_id = str(self.hello.get("peer_id", ""))

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        return self._answer()

    def call(self, other: HomePeer, blocks: int = 1) -> dict[str, Any]:
        return self.ask(call=other.peer_id, blocks=blocks)

    def close(self) -> None:
        self._process.communicate(timeout=WAIT_LIMIT_S)
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], WAIT_LIMIT_S)
        assert ready, "the peer says nothing"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    """A server on the Internet, two homes behind NAT, and a host that lets nothing in."""
    found = Homes(4, up_mbit=200, down_mbit=200, behind_nat=frozenset({FIRST, SECOND}))
    try:
        made = found.__enter__()
    except UserError as error:
        pytest.skip(f"no homes on this machine: {error}")
    try:
        made[SHUT].run(["nft", "-f", "-"], input=SHUT_DOWN, text=True)
        yield made
    finally:
        found.__exit__(None, None, None)


def test_homes_reach_each_other_through_a_relay_and_a_client_reaches_them(homes: Homes, tmp_path: Path) -> None:
    server = HomePeer(homes[PUBLIC], tmp_path / "server", 4001, {"auto_relay": False})
    (address,) = server.hello["addresses"]
    first = HomePeer(homes[FIRST], tmp_path / "first", 4001, {}, address)
    second = HomePeer(homes[SECOND], tmp_path / "second", 4001, {}, address)
    client = HomePeer(homes[SHUT], tmp_path / "client", 0, {"listens": False, "dht_mode": "client"}, address)
    try:
        assert server.call(first) == {"right": True}  # over the connection that the home has made
        for peer in (first, second):
            (relayed,) = [at for at in peer.ask(until="relay")["addresses"] if "/p2p-circuit" in at]
            assert relayed.startswith(address)
        assert called(first, second) and called(second, first)
        # A megabyte over a home's own connection, either way. (A circuit of the daemon's relay ends after 128 KiB.)
        assert first.call(server, blocks=4000) == {"right": True} == server.call(second, blocks=4000)
        assert client.ask(until="none")["addresses"] == []
        assert called(client, first)
        assert server.call(client) == {"right": True} == first.call(client)  # once it has called, it is answered
    finally:
        for peer in (client, second, first, server):
            peer.close()


def called(caller: HomePeer, callee: HomePeer) -> bool:
    """Whether a call gets through in time: the relayed address must first get round to who is asked for it."""
    end_s = time.monotonic() + WAIT_LIMIT_S
    while time.monotonic() < end_s:
        answer = caller.call(callee)
        if "error" not in answer:
            return bool(answer["right"])
        assert "cannot be reached" in answer["error"]
    return False


def test_a_home_that_reaches_nobody_says_what_was_tried(homes: Homes, tmp_path: Path) -> None:
    nobody, relay = (f"/ip4/{at}/p2p/Qm{of * 44}" for at, of in (("11.77.9.9/tcp/4001", "a"), ("11.77.0.2/tcp/9", "b")))
    late = HomePeer(homes[FIRST], tmp_path / "late", 0, {"trusted_relays": [relay]}, nobody)
    late.close()
    said = late.hello["error"]
    assert f"tried {nobody} (" in said and f"relays: {relay} (connection refused)" in said
    assert "only private addresses, so it is behind a router" in said and "--relay" in said
