"""A reducer that gives two peers two results."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from attack import Attack, Expect, Finding
from lines import Lines
from round_actors import BODIES, DOMAIN, JOB, key
from world import RULES, World, closes
from world_cast import Role, Weather

from anynode.blobs.store import BlobStore
from anynode.rounds.course import Open, Result
from anynode.swarm.payloads import CHUNKS, serve_payloads
from anynode.worker.exchange import Exchange
from anynode_contracts.errors import UnreachableError

ATTACK = Attack(
    "a reducer gives two results",
    "A reducer signs two averages of the same chunk, one for some peers and one for the others.",
    "prevented",
)
RECORDED, OTHER = b"the average that stands in the record", b"the average that it has signed besides"
COORDINATOR, LIAR, PEERS = "coordinator", "liar", ("first peer", "second peer")


class Gathering:
    """A round whose result is recorded, two peers that bring it here, and its reducer, which gives the second of them
    the other average. ``keeps``: the coordinator has a copy, as it has of whatever it records.
    """

    def __init__(self, folder: Path, *, keeps: bool) -> None:
        self.lines = Lines()
        self.stores = {name: BlobStore(folder / name) for name in (COORDINATOR, LIAR, *PEERS)}
        digest = self.stores[LIAR].put(RECORDED)
        self.other = self.stores[LIAR].put(OTHER)
        if keeps:
            self.stores[COORDINATOR].put(RECORDED)
        opened, result = BODIES[1], BODIES[4]
        assert isinstance(opened, Open) and isinstance(result, Result)
        places = (replace(opened.members[0], peer=LIAR), replace(opened.members[1], peer=PEERS[0]))
        last = replace(opened.members[1], slot=2, peer=PEERS[1])
        self.opened = replace(opened, members=(*places, last))
        self.result = replace(result, chunks=(replace(result.chunks[0], result=digest),))
        self.digest = digest

    async def serve(self) -> None:
        for name, store in self.stores.items():
            await serve_payloads(self.lines.at(name), store, allow=lambda _, __: True)
        honest = self.lines.handlers[LIAR, CHUNKS]

        async def two_faced(peer_id: str, request: bytes) -> bytes:
            if peer_id == PEERS[1]:
                return await honest(peer_id, request.replace(self.digest.encode(), self.other.encode()))
            return await honest(peer_id, request)

        self.lines.handlers[LIAR, CHUNKS] = two_faced

    async def gather(self, name: str) -> None:
        """What the product does with the result of a round before it applies it."""
        exchange = Exchange(
            JOB,
            peer=cast(Any, self.lines.at(name)),
            store=self.stores[name],
            domain=DOMAIN,
            account=key("bob"),
            reductions=cast(Any, None),
        )
        await exchange.gather(self.opened, self.result, COORDINATOR)


def test_both_peers_get_the_recorded_one(tmp_path: Path, expect: Expect) -> None:
    """The second finds that it was lied to, and has the average from somebody else."""
    round_ = Gathering(tmp_path, keeps=True)

    async def gather() -> None:
        await round_.serve()
        for name in PEERS:
            await round_.gather(name)

    asyncio.run(gather())
    for name in PEERS:
        assert round_.stores[name].get(round_.digest) == RECORDED
        assert not round_.stores[name].has(round_.other)
    assert set(round_.lines.blamed) <= {LIAR}
    expect(Finding("prevented", "an average is asked for by the hash in the record, and other bytes are a strike"))


def test_where_only_the_liar_answers_nothing_false_is_applied(tmp_path: Path) -> None:
    """Nor where nobody but the first peer, to which it told the truth, has what the record names."""
    round_ = Gathering(tmp_path, keeps=False)

    async def gather() -> None:
        await round_.serve()
        with pytest.raises(UnreachableError):
            await round_.gather(PEERS[1])
        assert set(round_.lines.blamed) == {LIAR}
        assert not round_.stores[PEERS[1]].has(round_.digest) and not round_.stores[PEERS[1]].has(round_.other)
        await round_.gather(PEERS[0])
        await round_.gather(PEERS[1])

    asyncio.run(gather())
    assert [round_.stores[name].get(round_.digest) for name in PEERS] == [RECORDED, RECORDED]


def test_where_the_coordinator_is_told_both_all_peers_apply_the_recorded_one() -> None:
    for seed in range(5):
        world = World(seed, [Role(), Role(), Role(), Role(vice="doubles")], Weather(delay_s_max=1.0), RULES)
        world.run(2_000.0)
        assert world.finished(), f"seed {seed}"
        assert world.applied and all(len(roots) == 1 for roots in world.applied.values()), f"seed {seed}"
        assert not any(close.forks for close in closes(world)), f"seed {seed}"
