"""Records as they cross the network: packed, with everything left out that the receiver can work out for itself.

In memory and on disk a record is rich, so that it explains itself; its hash and signature are over that form. On the
wire nodes, peers and hardware are numbers in a roster that both sides build from the records before, hashes and
signatures are bytes, a slot stands for its node, and ranges of samples are dealt again. A record that does not fit the
scheme travels as its JSON, so `unpack` gives back exactly what `pack` was given. What is unpacked keeps all limits of
`records.py`, because it passes through the same parser; `EXPANDED_MAX` bounds what a few bytes may grow into.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import asdict
from itertools import groupby, pairwise
from typing import Any

import msgpack
from eth_utils.address import to_checksum_address
from pydantic import TypeAdapter, ValidationError

from anynode.rounds.deal import deal, merge, work_seed
from anynode.rounds.ids import Range
from anynode.rounds.records import (
    MEMBERS_MAX,
    Assign,
    Close,
    Judged,
    Open,
    Reason,
    Result,
    Seal,
    SignedRecord,
    Verdict,
)
from anynode.rounds.roster import Entry, Roster
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

EXPANDED_MAX = 4_000_000
"""Slots, chunks and ranges in all that one run of records may unpack into."""

_MALFORMED = (ValueError, TypeError, LookupError, OverflowError, RecursionError, msgpack.UnpackException)
RECORDS_MAX = 64
"""Records of one run."""

_BLOCK_HASH = re.compile(r"0x[0-9a-f]{64}")
_HASH, _SIGNATURE, _ADDRESS = 32, 65, 20
_signed: TypeAdapter[SignedRecord] = TypeAdapter(SignedRecord)


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
        entries = [*roster.entries[:base], *((str(node), str(peer), str(hardware)) for node, peer, hardware in new)]
        reader = _Reader(_hex(job, _HASH), entries, ChainMap({}, roster.opens))
        return tuple(_in_turn(reader, height, roster.previous(height), packed))
    except RefusedError:
        raise
    except _MALFORMED as error:
        raise BreachError("a run of packed records is malformed; it is ignored", Offence.SCHEMA) from error


def _in_turn(reader: _Reader, height: int, follows: str, packed: Sequence[Any]) -> Iterator[SignedRecord]:
    for place, item in enumerate(packed):
        signed = reader.record(height + place, follows, item)
        follows = signed.record.hash
        yield signed


def _pack_record(signed: SignedRecord, roster: Roster) -> list[Any]:
    record = signed.record
    follows = record.previous == roster.previous(record.height)
    head = [b"" if follows else bytes.fromhex(record.previous), bytes.fromhex(signed.signature[2:])]
    packer = _PACKERS.get(record.body.kind)
    if packer is not None:
        try:
            body = packer(record.body, record.job, roster)
            raw = msgpack.unpackb(msgpack.packb(body))
            reader = _Reader(record.job, roster.entries, ChainMap({}, roster.opens))
            if reader.record(record.height, record.previous, [*head, record.body.kind, raw]) == signed:
                return [*head, record.body.kind, body]
        except (*_MALFORMED, RefusedError):
            pass
    return [*head, "", canonical_json(asdict(record.body))]


# ---------------------------------------------------------------- packing


def _pack_open(body: Open, job: str, roster: Roster) -> list[Any]:
    samples = [sum(end - start for start, end in ranges) for ranges in body.ranges]
    batch = sum(samples) // max(1, sum(member.quota_steps for member in body.members))
    seed = work_seed(job, body.round, body.beacon)
    pool = _pool(body.ranges)
    if deal(pool, samples, seed) != body.ranges:
        raise ValueError("ranges")
    return [
        body.round,
        bytes.fromhex(body.state_root),
        _text(body.beacon),
        body.refresh,
        [roster.number((member.node, member.peer, member.hardware)) for member in body.members],
        [member.quota_steps for member in body.members],
        _runs(member.slot for member in body.members if member.proven),
        _runs(member.slot for member in body.members if member.reduces),
        batch,
        _flat(pool),
        body.cursor,
        _flat(body.returned),
        body.inner_steps,
        body.work_s,
        body.exchange_s,
    ]


def _pool(ranges: Sequence[Sequence[Range]]) -> tuple[Range, ...]:
    """The pool that was dealt: all ranges joined, but cut where a slot's own ranges meet without being one."""
    cuts = {end for mine in ranges for (_, end), (start, _) in pairwise(mine) if start == end}
    pool: list[Range] = []
    for start, end in merge([item for mine in ranges for item in mine]):
        begin = start
        for cut in sorted(cut for cut in cuts if start < cut < end):
            pool.append((begin, cut))
            begin = cut
        pool.append((begin, end))
    return tuple(pool)


def _pack_seal(body: Seal, job: str, roster: Roster) -> list[Any]:
    items = body.commitments
    batch = items[0].samples // items[0].steps if items else 0
    return [
        body.round,
        _runs(item.slot for item in items),
        [item.steps for item in items],
        batch,
        _column([item.micro_batch for item in items]),
        b"".join(bytes.fromhex(item.update_root) for item in items),
        b"".join(bytes.fromhex(item.trace_root) for item in items),
        _column([item.code_version for item in items]),
        _column([item.energy_mj for item in items]),
        b"".join(bytes.fromhex(item.signature[2:]) for item in items),
        _pack_reasons(body.missing),
        bytes.fromhex(body.secret_hash),
        body.audit_height,
    ]


def _pack_assign(body: Assign, job: str, roster: Roster) -> list[Any]:
    runs = [(*key, len(list(group))) for key, group in groupby(body.reducers, lambda item: (item.slot, item.witness))]
    return [
        body.round,
        body.attempt,
        _runs(body.accepted),
        _pack_reasons(body.rejected),
        _runs(body.weightless),
        [number for run in runs for number in run],
    ]


def _pack_result(body: Result, job: str, roster: Roster) -> list[Any]:
    sets = list(dict.fromkeys(entry.senders for entry in body.chunks))
    number = {senders: place for place, senders in enumerate(sets)}
    runs = [
        (*key, len(list(group)))
        for key, group in groupby(body.chunks, lambda entry: (entry.attempt, entry.reducer, number[entry.senders]))
    ]
    return [
        body.round,
        [item for run in runs for item in run],
        [_runs(senders) for senders in sets],
        b"".join(bytes.fromhex(entry.result) for entry in body.chunks),
        [
            [item.reducer, item.attempt, _runs(item.chunks), bytes.fromhex(item.signature[2:])]
            for item in body.reductions
        ],
        body.steps,
        body.cursor,
        _flat(body.returned),
    ]


def _pack_close(body: Close, job: str, roster: Roster) -> list[Any]:
    slot_of = {member.node: member.slot for member in roster.opens[body.round].members}
    inside = [report for report in body.reports if report.node in slot_of]
    outside = [report for report in body.reports if report.node not in slot_of]
    return [
        body.round,
        bytes.fromhex(body.state_root),
        _runs(slot_of[report.node] for report in inside),
        b"".join(bytes.fromhex(report.node[2:]) for report in outside),
        b"".join(bytes.fromhex(report.signature[2:]) for report in (*inside, *outside)),
        b"".join(bytes.fromhex(node[2:]) for node in body.forks),
    ]


def _pack_verdict(body: Verdict, job: str, roster: Roster) -> list[Any]:
    return [
        body.round,
        bytes.fromhex(body.secret),
        _text(body.block_hash),
        _runs(item.slot for item in body.judged),
        _runs(item.slot for item in body.judged if item.audited),
        _runs(item.slot for item in body.judged if item.accepted),
        _column([item.reason for item in body.judged]),
    ]


def _pack_reasons(reasons: Sequence[Reason]) -> list[Any]:
    return [_runs(item.slot for item in reasons), _column([item.reason for item in reasons])]


def _runs(numbers: Iterable[int]) -> list[int]:
    """An ascending list as gaps and lengths: ``[gap, length, gap, length, ...]``."""
    found: list[int] = []
    end = 0
    for number in numbers:
        if found and number == end:
            found[-1] += 1
        else:
            found += [number - end, 1]
        end = number + 1
    return found


def _column(values: Sequence[Any]) -> list[Any]:
    """A column in which few values repeat: the values, and runs of their places in that list."""
    table = list(dict.fromkeys(values))
    place = {value: number for number, value in enumerate(table)}
    return [table, [number for key, run in groupby(values) for number in (place[key], len(list(run)))]]


def _text(value: str) -> bytes | str:
    """A block hash as its bytes; any other text as it is."""
    data = bytes.fromhex(value[2:]) if _BLOCK_HASH.fullmatch(value) else b""
    return data or value


def _flat(ranges: Iterable[Range]) -> list[int]:
    return [position for pair in ranges for position in pair]


_PACKERS: dict[str, Callable[[Any, str, Roster], list[Any]]] = {
    "open": _pack_open,
    "seal": _pack_seal,
    "assign": _pack_assign,
    "result": _pack_result,
    "close": _pack_close,
    "verdict": _pack_verdict,
}


# ---------------------------------------------------------------- unpacking


class _Reader:
    """Unpacks the records of one run. Whatever is wrong ends in an error that `unpack` turns into one refusal."""

    def __init__(self, job: str, entries: Sequence[Entry], opens: MutableMapping[int, Open]) -> None:
        self.job, self.entries, self.opens = job, entries, opens
        self.left = EXPANDED_MAX

    def record(self, height: int, follows: str, packed: Any) -> SignedRecord:
        """One record; ``follows`` is the hash of the one before it."""
        previous, signature, kind, raw = packed
        body = _BODIES[kind](self, raw) if kind else None
        plain = canonical_json(body) if kind else bytes(raw)
        head = {"height": height, "job": self.job, "previous": _hex(previous, _HASH) if previous else follows}
        data = b'{"record":%s,"signature":%s}' % (
            canonical_json(head)[:-1] + b',"body":' + plain + b"}",
            canonical_json("0x" + _hex(signature, _SIGNATURE)),
        )
        try:
            signed = _signed.validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BreachError(
                f"a packed record is malformed at {where[:100]} ({first['msg'][:100]})", Offence.SCHEMA
            ) from error
        if isinstance(signed.record.body, Open):
            self.opens[signed.record.body.round] = signed.record.body
        return signed

    def open(self, raw: Any) -> dict[str, Any]:
        round_, root, text, refresh, *columns, cursor, returned, length, work_s, exchange_s = raw
        numbers, steps, proven, reduces, batch, pool = columns
        beacon = _plain(text)
        self._spend(3 * len(numbers))
        if len(numbers) > MEMBERS_MAX or len(steps) != len(numbers):
            raise ValueError("members")
        samples = [quota * batch for quota in steps]
        pieces = self._ranges(pool)
        if any(count < 0 for count in samples) or sum(end - start for start, end in pieces) != sum(samples):
            raise ValueError("pool")
        ranges = deal(pieces, samples, work_seed(self.job, round_, beacon))
        with_audit, reachable = set(self._list(proven)), set(self._list(reduces))
        members = []
        for slot, (number, quota) in enumerate(zip(numbers, steps, strict=True)):
            if number < 0:
                raise ValueError("number")
            node, peer, hardware = self.entries[number]
            member = {"slot": slot, "node": node, "peer": peer, "hardware": hardware, "quota_steps": quota}
            members.append({**member, "proven": slot in with_audit, "reduces": slot in reachable})
        return {
            "kind": "open",
            "round": round_,
            "state_root": _hex(root, _HASH),
            "beacon": beacon,
            "refresh": refresh,
            "members": members,
            "ranges": ranges,
            "cursor": cursor,
            "returned": self._ranges(returned),
            "inner_steps": length,
            "work_s": work_s,
            "exchange_s": exchange_s,
        }

    def seal(self, raw: Any) -> dict[str, Any]:
        round_, slots, steps, batch, micro, updates, traces, codes, energy, signatures, missing, secret, height = raw
        opened = self.opens[round_]
        columns = zip(
            self._list(slots),
            steps,
            self._column(micro),
            _cut(updates, _HASH),
            _cut(traces, _HASH),
            self._column(codes),
            self._column(energy),
            _cut(signatures, _SIGNATURE),
            strict=True,
        )
        commitments = [
            {
                "slot": slot,
                "node": opened.members[slot].node,
                "steps": count,
                "samples": count * batch,
                "micro_batch": size,
                "update_root": update,
                "trace_root": trace,
                "hardware": opened.members[slot].hardware,
                "code_version": code,
                "energy_mj": spent,
                "signature": "0x" + signature,
            }
            for slot, count, size, update, trace, code, spent, signature in columns
        ]
        return {
            "kind": "seal",
            "round": round_,
            "commitments": commitments,
            "missing": self._reasons(missing),
            "secret_hash": _hex(secret, _HASH),
            "audit_height": height,
        }

    def assign(self, raw: Any) -> dict[str, Any]:
        round_, attempt, accepted, rejected, weightless, flat = raw
        reducers: list[dict[str, int]] = []
        for slot, witness, count in _tuples(flat, 3):
            self._spend(count)
            reducers += [{"chunk": len(reducers) + place, "slot": slot, "witness": witness} for place in range(count)]
        return {
            "kind": "assign",
            "round": round_,
            "attempt": attempt,
            "accepted": self._list(accepted),
            "rejected": self._reasons(rejected),
            "weightless": self._list(weightless),
            "reducers": reducers,
        }

    def result(self, raw: Any) -> dict[str, Any]:
        round_, flat, sets, results, reductions, steps, cursor, returned = raw
        senders = [self._list(item) for item in sets]
        hashes = _cut(results, _HASH)
        chunks: list[dict[str, Any]] = []
        for attempt, reducer, place, count in _tuples(flat, 4):
            if place < 0:
                raise ValueError("place")
            self._spend(count * (1 + len(senders[place])))
            entry = {"attempt": attempt, "reducer": reducer, "senders": senders[place]}
            for _ in range(count):
                chunks.append({**entry, "chunk": len(chunks), "result": hashes[len(chunks)]})
        if len(chunks) != len(hashes):
            raise ValueError("results")
        return {
            "kind": "result",
            "round": round_,
            "chunks": chunks,
            "reductions": [
                {
                    "reducer": reducer,
                    "attempt": attempt,
                    "chunks": self._list(covered),
                    "signature": "0x" + _hex(signature, _SIGNATURE),
                }
                for reducer, attempt, covered, signature in reductions
            ],
            "steps": steps,
            "cursor": cursor,
            "returned": self._ranges(returned),
        }

    def close(self, raw: Any) -> dict[str, Any]:
        round_, root, slots, others, signatures, forks = raw
        members = self.opens[round_].members
        nodes = [*(members[slot].node for slot in self._list(slots)), *_addresses(others)]
        reports = [
            {"node": node, "signature": "0x" + signature}
            for node, signature in zip(nodes, _cut(signatures, _SIGNATURE), strict=True)
        ]
        return {
            "kind": "close",
            "round": round_,
            "state_root": _hex(root, _HASH),
            "reports": sorted(reports, key=lambda report: report["node"]),
            "forks": list(_addresses(forks)),
        }

    def verdict(self, raw: Any) -> dict[str, Any]:
        round_, secret, block_hash, slots, audited, accepted, reasons = raw
        members = self.opens[round_].members
        seen, good = set(self._list(audited)), set(self._list(accepted))
        judged = [
            asdict(Judged(slot, members[slot].node, slot in seen, slot in good, reason))
            for slot, reason in zip(self._list(slots), self._column(reasons), strict=True)
        ]
        return {
            "kind": "verdict",
            "round": round_,
            "secret": _hex(secret, _HASH),
            "block_hash": _plain(block_hash),
            "judged": judged,
        }

    # ------------------------------------------------------------ parts

    def _spend(self, count: int) -> None:
        """Count what is unpacked, before it is."""
        self.left -= count if count >= 0 else self.left + 1
        if self.left < 0:
            raise ValueError("too much")

    def _list(self, runs: Sequence[int]) -> list[int]:
        numbers: list[int] = []
        end = 0
        for gap, length in _tuples(runs, 2):
            self._spend(length)
            if gap < 0:
                raise ValueError("gap")
            numbers += range(end + gap, end + gap + length)
            end += gap + length
        return numbers

    def _column(self, packed: Any) -> list[Any]:
        table, runs = packed
        values: list[Any] = []
        for place, length in _tuples(runs, 2):
            self._spend(length)
            if place < 0:
                raise ValueError("place")
            values += [table[place]] * length
        return values

    def _reasons(self, packed: Any) -> list[dict[str, Any]]:
        slots, reasons = packed
        pairs = zip(self._list(slots), self._column(reasons), strict=True)
        return [{"slot": slot, "reason": reason} for slot, reason in pairs]

    def _ranges(self, flat: Sequence[int]) -> list[Range]:
        pairs = [(start, end) for start, end in _tuples(flat, 2)]
        if any(not 0 <= start < end for start, end in pairs):
            raise ValueError("range")
        self._spend(len(pairs))
        return pairs


_BODIES: dict[str, Callable[[_Reader, Any], dict[str, Any]]] = {
    "open": _Reader.open,
    "seal": _Reader.seal,
    "assign": _Reader.assign,
    "result": _Reader.result,
    "close": _Reader.close,
    "verdict": _Reader.verdict,
}


def _tuples(flat: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    """Whole numbers in groups of ``width``."""
    if len(flat) % width or any(type(number) is not int for number in flat):
        raise ValueError("numbers")
    return zip(*(iter(flat),) * width, strict=True)


def _cut(data: bytes, size: int) -> list[str]:
    if type(data) is not bytes or len(data) % size:
        raise ValueError("bytes")
    return [data[start : start + size].hex() for start in range(0, len(data), size)]


def _addresses(data: bytes) -> Iterator[str]:
    return (to_checksum_address("0x" + item) for item in _cut(data, _ADDRESS))


def _plain(value: bytes | str) -> str:
    return "0x" + _hex(value, _HASH) if isinstance(value, bytes) else value


def _hex(data: bytes, size: int) -> str:
    if type(data) is not bytes or len(data) != size:
        raise ValueError("bytes")
    return data.hex()
