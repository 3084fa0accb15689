"""Lines between peers in one process: the product's services answer over them, or what a liar puts in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynode.swarm.service import Handler
from anynode_contracts.errors import BreachError, UnreachableError


class Lines:
    """Who serves what. ``blamed`` are the peers that were caught in a breach, each once for every time."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.blamed: list[str] = []

    def at(self, name: str) -> Place:
        return Place(self, name)


class Place:
    """One peer's end of the lines: the part of `Peer` that serving and fetching need."""

    def __init__(self, lines: Lines, name: str) -> None:
        self._lines, self.peer_id = lines, name

    async def serve(self, name: str, handler: Handler, **_: Any) -> None:
        self._lines.handlers[self.peer_id, name] = handler

    async def call(
        self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int, **_: Any
    ) -> bytes:
        handler = self._lines.handlers.get((peer_id, name))
        if handler is None:
            raise UnreachableError(f"peer {peer_id} does not answer")
        answer = await handler(self.peer_id, request)
        assert len(answer) <= limit_bytes
        return answer

    @contextmanager
    def blaming(self, peer_id: str) -> Iterator[None]:
        try:
            yield
        except BreachError:
            self._lines.blamed.append(peer_id)
            raise
