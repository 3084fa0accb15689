"""The DHT of signed records: a hivemind DHT node on our own daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

from hivemind.dht import DHTNode
from hivemind.utils.multiaddr import Multiaddr

from anynode.swarm.directory_calls import CallGuard, GuardedP2P
from anynode.swarm.records import (
    TTL_S_MAX,
    Record,
    RecordRules,
    Sign,
    SignedRecordValidator,
    check_record,
    signed_record,
)
from anynode_contracts.errors import RefusedError, UnreachableError, invariant

log = logging.getLogger(__name__)

RPC_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0
CACHE_KEYS_MAX = 1024


class RecordTable:
    """``put`` and ``get`` of signed records. Node ids and routing are hivemind's (Kademlia)."""

    def __init__(self, p2p: Any, node: Any, rules: RecordRules) -> None:
        self._p2p = p2p
        self._node = node
        self._rules = rules
        self._expiry_s_by_key: dict[str, int] = {}

    @classmethod
    async def start(
        cls,
        control_path: Path,
        rules: RecordRules,
        initial_peers: tuple[str, ...],
        guard: CallGuard,
        *,
        client_only: bool,
    ) -> RecordTable:
        """Join the DHT through ``initial_peers`` (multiaddrs of connected peers); none: found a new one."""
        p2p = await GuardedP2P.replicate(Multiaddr(f"/unix{control_path}"))
        p2p.guard = guard
        try:
            node = await DHTNode.create(
                p2p=p2p,
                initial_peers=list(initial_peers) or None,
                record_validator=SignedRecordValidator(rules, guard.blame_caller),
                wait_timeout=RPC_TIMEOUT_S,
                bootstrap_timeout=RPC_TIMEOUT_S,
                cache_size=CACHE_KEYS_MAX,
                client_mode=client_only,
                ensure_bootstrap_success=False,  # initial peers are checked, and failures worded, by the peer
            )
        except BaseException:
            await _leave(p2p)
            raise
        return cls(p2p, node, rules)

    async def put(self, key: str, body: dict[str, Any], sign: Sign, ttl_s: int) -> Record:
        """Sign ``body`` and store it under ``key`` for ``ttl_s`` seconds, in place of the signer's former record.

        Raises ``RefusedError`` if the rules do not allow it, ``UnreachableError`` if no node stored it.
        """
        invariant(0 < ttl_s <= TTL_S_MAX, "a record lives for at most a day")
        # The DHT replaces a record only by one that expires later.
        expires_s = max(int(self._rules.now_s()) + ttl_s, self._expiry_s_by_key.get(key, 0) + 1)
        raw, record = signed_record(self._rules, key, body, sign, expires_s=expires_s)
        self._expiry_s_by_key[key] = expires_s
        stored = await self._node.store(key, raw, float(record.expires_s), subkey=record.signer)
        if not stored:
            raise UnreachableError(f"no peer stored the record {key!r}; wait a moment and try again")
        return record

    async def get(self, key: str) -> tuple[Record, ...]:
        """The unexpired records under ``key``, at most one of each signer, ordered by signer."""
        found = await self._node.get(key, latest=True)
        entries = found.value if found is not None and isinstance(found.value, dict) else {}
        records = []
        for entry in entries.values():
            try:
                record = check_record(entry.value if isinstance(entry.value, bytes) else b"", self._rules)
            except RefusedError as error:
                log.debug("skipping a record under %s: %s", key, error)
                continue
            if record.key == key and record.expires_s > self._rules.now_s():
                records.append(record)
        return tuple(sorted(records, key=lambda record: record.signer))

    async def close(self) -> None:
        # A daemon that has died never answers hivemind's farewell, or breaks the connection.
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._node.shutdown()
        await _leave(self._p2p)


async def _leave(p2p: Any) -> None:
    await p2p.shutdown()
    control = p2p._client.control  # hivemind only cancels its tasks; wait, so that their sockets close in this loop
    tasks = [task for task in (control._read_task, control._write_task) if task is not None]
    await asyncio.gather(*tasks, return_exceptions=True)
