"""Payload bytes that crossed this node's streams, by service: for metrics and for the line at the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Bytes since the start. Kinds are the names of services, so there are few. Frames' headers are left out."""

    sent_bytes: Counter[str] = field(default_factory=Counter)
    received_bytes: Counter[str] = field(default_factory=Counter)

    def sent(self, kind: str, size_bytes: int) -> None:
        self.sent_bytes[kind] += size_bytes

    def received(self, kind: str, size_bytes: int) -> None:
        self.received_bytes[kind] += size_bytes

    def totals(self) -> tuple[int, int]:
        """All bytes sent, all bytes received."""
        return sum(self.sent_bytes.values()), sum(self.received_bytes.values())
