"""Records as they cross the network: packed, with everything left out that the receiver can work out for itself.

In memory and on disk a record is rich, so that it explains itself; its hash and signature are over that form. On the
wire nodes, peers and hardware are numbers in a roster that both sides build from the records before, hashes and
signatures are bytes, a slot stands for its node, and ranges of samples are dealt again. A record that does not fit the
scheme travels as its JSON, so `unpack` gives back exactly what `pack` was given. What is unpacked keeps all limits of
`records.py`, because it passes through the same parser, and a few bytes may grow only so far (`unpacking.py`).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import msgpack

from anynode.rounds.columns import HASH_BYTES, hexadecimal
from anynode.rounds.packers import PACKERS
from anynode.rounds.records import SignedRecord
from anynode.rounds.roster import Roster
from anynode.rounds.unpacking import Reader
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

RECORDS_MAX = 64
"""Records of one run."""

_MALFORMED = (ValueError, TypeError, LookupError, OverflowError, RecursionError, msgpack.UnpackException)


def pack(records: Sequence[SignedRecord], roster: Roster) -> bytes:
    """The bytes of a run of records, all of which ``roster`` has noted."""
    if not records:
        return b""
    first = records[0].record
    base = roster.size_at(first.height)
    new = roster.entries[base : roster.size_at(records[-1].record.height + 1)]
    packed = [_pack_record(item, roster) for item in records]
    run = [bytes.fromhex(first.job), first.height, base, [list(entry) for entry in new], packed]
    return bytes(msgpack.packb(run))


def unpack(data: bytes, roster: Roster) -> tuple[SignedRecord, ...]:
    """The records in ``data``; none when they begin above what ``roster`` knows: they cannot be read before those.

    Raises ``RefusedError`` when the bytes are malformed or unpack into too much. Signatures are not checked here.
    """
    if not data:
        return ()
    try:
        job, height, base, new, packed = msgpack.unpackb(data, max_map_len=0, max_ext_len=0)
        if type(height) is not int or len(packed) > RECORDS_MAX:
            raise ValueError("run")
        if height > roster.height:
            return ()
        if not 0 <= base <= len(roster.entries):
            raise ValueError("roster")
        entries = [*roster.entries[:base], *((str(a), str(b), str(c), str(d)) for a, b, c, d in new)]
        reader = Reader(hexadecimal(job, HASH_BYTES), entries, ChainMap({}, roster.opens))
        return tuple(_in_turn(reader, height, roster.previous(height), packed))
    except RefusedError:
        raise
    except _MALFORMED as error:
        raise BreachError("a run of packed records is malformed; it is ignored", Offence.SCHEMA) from error


def _in_turn(reader: Reader, height: int, follows: str, packed: Sequence[Any]) -> Iterator[SignedRecord]:
    for place, item in enumerate(packed):
        signed = reader.record(height + place, follows, item)
        follows = signed.record.hash
        yield signed


def _pack_record(signed: SignedRecord, roster: Roster) -> list[Any]:
    record = signed.record
    follows = record.previous == roster.previous(record.height)
    head = [
        b"" if follows else bytes.fromhex(record.previous),
        signed.view,
        b"".join(bytes.fromhex(signature[2:]) for signature in signed.signatures),
        canonical_json([asdict(proof) for proof in signed.proofs]) if signed.proofs else b"",
    ]
    packer = PACKERS.get(record.body.kind)
    if packer is not None:
        try:
            body = packer(record.body, record.job, roster)
            raw = msgpack.unpackb(msgpack.packb(body))
            reader = Reader(record.job, roster.entries, ChainMap({}, roster.opens))
            if reader.record(record.height, record.previous, [*head, record.body.kind, raw]) == signed:
                return [*head, record.body.kind, body]
        except (*_MALFORMED, RefusedError):
            pass
    return [*head, "", canonical_json(asdict(record.body))]
