"""An opened trace on the wire: the leaves behind a commitment's trace root."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from annotated_types import MaxLen
from pydantic import TypeAdapter, ValidationError

from anynode.training.trace import TraceLeaf
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError

TRACE_BYTES_MAX = 8 << 20
LEAVES_MAX = 100_000

_leaves: TypeAdapter[tuple[TraceLeaf, ...]] = TypeAdapter(Annotated[tuple[TraceLeaf, ...], MaxLen(LEAVES_MAX)])


def encode_leaves(leaves: tuple[TraceLeaf, ...]) -> bytes:
    """Canonical JSON of the leaves, in order of segments."""
    return canonical_json([asdict(leaf) for leaf in leaves])


def parse_leaves(data: bytes) -> tuple[TraceLeaf, ...]:
    """Leaves from a peer. Raises ``RefusedError`` unless they are well-formed."""
    try:
        return _leaves.validate_json(data)
    except ValidationError as error:
        raise RefusedError("the trace that was shown is malformed; the work is replayed without it") from error
