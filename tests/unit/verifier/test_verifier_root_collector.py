"""Which ledger the others are shown that are asked to sign a root."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from bank import NETWORK, VERIFIER, Bank
from signed_world import SignedWorld, key
from web3 import Web3

from anynode.swarm.peer import Peer
from anynode_contracts.canonical import hash_hex, parse_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.typed_data import RootSignature, RootStatement
from anynode_ledger.settlement import batches_of
from anynode_verifier.root_collector import RootCollector
from anynode_verifier.root_signer import RootSigner


class Signer:
    def sign(self, statement: RootStatement, ledger: bytes) -> RootSignature:
        return RootSignature(VERIFIER, b"\1" * 65)


class Others:
    """A libp2p peer whose other side refuses whatever ledger it is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.asked = asyncio.Condition()

    async def call(self, peer_id: str, name: str, data: bytes, *_: Any) -> bytes:
        async with self.asked:
            self.shown.append(parse_json(data)["ledger"])
            self.asked.notify_all()
        raise RefusedError("round 0: somebody was found out and is not slashed")

    async def until(self, times: int, ledgers: int) -> None:
        """Asked so often, about so many ledgers."""
        async with asyncio.timeout(60), self.asked:
            await self.asked.wait_for(lambda: len(self.shown) >= times and len(set(self.shown)) >= ledgers)


async def test_after_a_refusal_the_ledger_is_copied_anew_if_it_has_gone_on(
    tmp_path: Path, grown: SignedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root stays, and so do the signatures that are there."""
    bank = Bank(tmp_path / "ledger.sqlite", grown).fill()
    bank.treasury.advance([bank.account()])
    other, others = key("another verifier").address, Others()
    collector = RootCollector(
        bank.book,
        NETWORK,
        Web3(),
        cast(RootSigner, Signer()),
        peer=cast(Peer, others),
        me=VERIFIER,
        peer_of={other: "a peer"},
    )
    monkeypatch.setattr(collector._verifier_set, "members", lambda: [VERIFIER, other])
    monkeypatch.setattr(collector._verifier_set, "quorum", lambda: 2)
    monkeypatch.setattr("anynode_verifier.root_collector.AGAIN_S", 0.0)
    batch = batches_of(bank.book)[-1].batch
    root, data_hash = bytes.fromhex(batch.root), bytes.fromhex(batch.data_hash)
    statement = RootStatement(batch.number, 0, root, batch.total_gwei, data_hash)
    with pytest.raises(RefusedError, match="1 of 2 verifiers"):
        collector.signatures(statement)
    running = asyncio.create_task(collector.run())
    await others.until(3, 1)
    assert len(set(others.shown)) == 1, "a ledger that has not gone on is not copied"
    bank.book.slash(1, grown.job.job_id, "found out late", "slash/late")
    await others.until(4, 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    wanted = collector._wanted
    assert wanted is not None and wanted.statement == statement and set(wanted.signed) == {VERIFIER}
    assert wanted.digest == hash_hex(wanted.ledger) == others.shown[-1]
    assert "slash/late" in {item["id"] for item in parse_json(wanted.ledger)["decisions"]}
    with pytest.raises(RefusedError, match="1 of 2 verifiers"):
        collector.signatures(statement)
    assert collector._wanted is not None and collector._wanted.digest == others.shown[-1]
    bank.book.close()
