"""A verifier goes on saying where it is, also after nobody has heard it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from eth_account import Account

from anynode.swarm.peer import Peer
from anynode.worker import directory
from anynode.worker.directory import keep_announcing
from anynode_contracts.errors import UnreachableError
from unasked_network import NETWORK


class Deaf:
    """A swarm that stores every second record."""

    peer_id = "Peer"

    def __init__(self) -> None:
        self.said = list[str]()

    async def put_record(self, key: str, body: dict[str, Any], *_: Any) -> None:
        self.said.append(f"{key} {body['peer']}")
        if len(self.said) % 2:
            raise UnreachableError("no peer stored the record")


async def test_what_nobody_has_stored_is_said_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(directory, "ANNOUNCE_AGAIN_S", 0.0)
    swarm = Deaf()
    announcing = asyncio.create_task(keep_announcing(cast(Peer, swarm), NETWORK, Account.create()))
    while len(swarm.said) < 2:
        assert not announcing.done(), announcing.exception()
        await asyncio.sleep(0)
    announcing.cancel()
    assert swarm.said == ["coordinator/test Peer"] * 2
    assert "do not find this verifier yet" in caplog.text
