"""Records are pushed to each member in their order, whatever the others do."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from round_actors import JOB, signed_chain

from anynode.rounds import wire
from anynode.rounds.chain import RecordLog
from anynode.rounds.roster import Roster
from anynode.worker.link import PUSH
from anynode_contracts.errors import UnreachableError
from anynode_verifier.pushing import Pushing

CHAIN = signed_chain()


class Line:
    """Takes pushes, and answers a peer's when the test says so."""

    def __init__(self) -> None:
        self.heights: defaultdict[str, list[list[int]]] = defaultdict(list)
        self.answers: defaultdict[str, asyncio.Queue[bool]] = defaultdict(asyncio.Queue)
        self.called: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._rosters: defaultdict[str, Roster] = defaultdict(Roster)

    async def call(self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
        assert (name, request[:64]) == (PUSH, JOB.encode())
        records = wire.parse_push(request[64:], self._rosters[peer_id])
        self.heights[peer_id].append([item.record.height for item in records])
        self.called[peer_id].set()
        if not await self.answers[peer_id].get():
            raise UnreachableError("the peer has gone; it asks again when it is back")
        for item in records:
            self._rosters[peer_id].note(item.record)
        return b""

    @contextmanager
    def blaming(self, peer_id: str) -> Iterator[None]:
        yield


async def test_a_peer_gets_what_came_meanwhile_in_one_push_and_in_order(tmp_path: Path) -> None:
    chain, line = RecordLog(tmp_path / "records.jsonl", JOB), Line()
    pushing = Pushing(chain, line)
    chain.append(CHAIN[:1])
    for _ in range(4):
        line.answers["fast"].put_nowait(True)
    await pushing.push("fast", 0)
    under_way = asyncio.create_task(pushing.push("slow", 0))
    await line.called["slow"].wait()
    for signed in CHAIN[1:4]:
        chain.append([signed])
        for peer in ("slow", "fast"):
            await pushing.push(peer, signed.record.height)
    for _ in range(2):
        line.answers["slow"].put_nowait(True)
    await under_way
    assert line.heights["slow"] == [[0], [1, 2, 3]]
    assert line.heights["fast"] == [[0], [1], [2], [3]]


async def test_a_push_that_fails_holds_up_nothing(tmp_path: Path) -> None:
    """What it lacks then, the peer gets by its next sync; what is new is pushed to it again."""
    chain, line = RecordLog(tmp_path / "records.jsonl", JOB), Line()
    pushing = Pushing(chain, line)
    chain.append(CHAIN[:2])
    line.answers["peer"].put_nowait(False)
    await pushing.push("peer", 1)
    chain.append(CHAIN[2:3])
    line.answers["peer"].put_nowait(True)
    await pushing.push("peer", 0)
    assert line.heights["peer"] == [[], [0, 1, 2]]
