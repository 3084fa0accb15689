"""The traces of a worker's rounds, the leaves behind its commitments' trace roots: on its disk and on the wire."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from annotated_types import MaxLen
from pydantic import TypeAdapter, ValidationError

from anynode.swarm.hashes import HASH_HEX_BYTES, split_hash
from anynode.training.trace import TraceLeaf
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, UserError
from anynode_contracts.files import write_aside

TRACE_REQUEST_BYTES_MAX = HASH_HEX_BYTES + 1 + 15
TRACE_BYTES_MAX = 8 << 20
LEAVES_MAX = 100_000
TRACES_KEPT = 64
_ROUND = re.compile(rb" [0-9]{1,15}")

_leaves: TypeAdapter[tuple[TraceLeaf, ...]] = TypeAdapter(Annotated[tuple[TraceLeaf, ...], MaxLen(LEAVES_MAX)])


def trace_request(job_id: str, round_: int) -> bytes:
    """Asks a worker to open its trace of a round."""
    return f"{job_id} {round_}".encode()


def parse_trace_request(request: bytes) -> tuple[str, int]:
    """The job and the round that are asked for. Raises ``BreachError`` for another thing."""
    job_id, rest = split_hash(request)
    if not _ROUND.fullmatch(rest):
        raise BreachError("a request for a trace names no round; update AnyNode", Offence.SCHEMA)
    return job_id, int(rest)


def encode_leaves(leaves: tuple[TraceLeaf, ...]) -> bytes:
    """Canonical JSON of the leaves, in order of segments."""
    return canonical_json([asdict(leaf) for leaf in leaves])


def parse_leaves(data: bytes) -> tuple[TraceLeaf, ...]:
    """Leaves from a peer. Raises ``BreachError`` unless they are well-formed."""
    try:
        return _leaves.validate_json(data)
    except ValidationError as error:
        sentence = "the trace that was shown is malformed; the work is replayed without it"
        raise BreachError(sentence, Offence.SCHEMA) from error


class Traces:
    """The trace of each round's work, on disk below ``folder``: a restart must not make an audit impossible."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, round_: int, leaves: tuple[TraceLeaf, ...]) -> None:
        """Keep a trace, and drop the oldest over the limit. Raises ``StorageError`` when the disk is full."""
        write_aside(self._folder / str(round_), encode_leaves(leaves), durable=False)
        found = [int(path.name) for path in self._folder.iterdir() if re.fullmatch(r"[0-9]{1,15}", path.name)]
        for number in sorted(found)[:-TRACES_KEPT]:
            (self._folder / str(number)).unlink(missing_ok=True)

    def of(self, round_: int) -> tuple[TraceLeaf, ...]:
        """The leaves of a round's work, none where they are lost."""
        try:
            return parse_leaves((self._folder / str(round_)).read_bytes())
        except (OSError, UserError):
            return ()
