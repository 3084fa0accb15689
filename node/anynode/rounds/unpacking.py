"""From columns back to records: what was left out is worked out again, within the limits of `records.py`. Pure."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from anynode.rounds.columns import HASH_BYTES, RATE_BYTES, SIGNATURE_BYTES, addresses, cut, hexadecimal, plain, tuples
from anynode.rounds.course import MEMBERS_MAX, Open
from anynode.rounds.deal import deal, work_seed
from anynode.rounds.ids import Range
from anynode.rounds.judgements import Judged, ReductionJudged
from anynode.rounds.records import SignedRecord
from anynode.rounds.roster import Entry
from anynode_contracts.canonical import canonical_json, parse_json
from anynode_contracts.errors import BreachError, Offence

EXPANDED_MAX = 4_000_000
"""Slots, chunks and ranges in all that one run of records may unpack into."""

_signed: TypeAdapter[SignedRecord] = TypeAdapter(SignedRecord)


class Reader:
    """Unpacks the records of one run. Whatever is wrong ends in an error, of which `unpack` makes one refusal."""

    def __init__(self, job: str, entries: Sequence[Entry], opens: MutableMapping[int, Open]) -> None:
        self.job, self.entries, self.opens = job, entries, opens
        self.left = EXPANDED_MAX

    def record(self, height: int, follows: str, packed: Any) -> SignedRecord:
        """One record; ``follows`` is the hash of the one before it."""
        previous, view, signatures, proofs, kind, raw = packed
        body = _BODIES[kind](self, raw) if kind else None
        rich = canonical_json(body) if kind else bytes(raw)
        before = hexadecimal(previous, HASH_BYTES) if previous else follows
        head = {"height": height, "job": self.job, "previous": before}
        data = b'{"record":%s,"view":%s,"signatures":%s,"proofs":%s}' % (
            canonical_json(head)[:-1] + b',"body":' + rich + b"}",
            canonical_json(view),
            canonical_json(["0x" + signature for signature in cut(signatures, SIGNATURE_BYTES)]),
            bytes(proofs) or b"[]",
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
        round_, root, text, refresh, *columns, cursor, returned, length, work_s, exchange_s, thresholds = raw
        numbers, steps, proven, reduces, audits, batch, pool = columns
        beacon = plain(text)
        self._spend(3 * len(numbers))
        if len(numbers) > MEMBERS_MAX or len(steps) != len(numbers):
            raise ValueError("members")
        samples = [quota * batch for quota in steps]
        pieces = self._ranges(pool)
        if any(count < 0 for count in samples) or sum(end - start for start, end in pieces) != sum(samples):
            raise ValueError("pool")
        ranges = deal(pieces, samples, work_seed(self.job, round_, beacon))
        with_audit, reachable, auditing = (set(self._list(item)) for item in (proven, reduces, audits))
        members = []
        for slot, (number, quota) in enumerate(zip(numbers, steps, strict=True)):
            if number < 0:
                raise ValueError("number")
            node, peer, hardware, owner = self.entries[number]
            member = {"slot": slot, "node": node, "peer": peer, "hardware": hardware, "quota_steps": quota}
            shown = {"proven": slot in with_audit, "reduces": slot in reachable, "audits": slot in auditing}
            members.append({**member, **shown, "owner": owner})
        return {
            "kind": "open",
            "round": round_,
            "state_root": hexadecimal(root, HASH_BYTES),
            "beacon": beacon,
            "refresh": refresh,
            "members": members,
            "ranges": ranges,
            "cursor": cursor,
            "returned": self._ranges(returned),
            "inner_steps": length,
            "work_s": work_s,
            "exchange_s": exchange_s,
            "thresholds": hexadecimal(thresholds, HASH_BYTES) if thresholds else "",
        }

    def seal(self, raw: Any) -> dict[str, Any]:
        round_, slots, steps, batch, micro, updates, traces, codes, energy, signatures, missing, *drawn = raw
        secret, height, rates_ppm, by, absences = drawn
        (sealer,) = addresses(by)
        opened = self.opens[round_]
        columns = zip(
            self._list(slots),
            steps,
            self._column(micro),
            cut(updates, HASH_BYTES),
            cut(traces, HASH_BYTES),
            self._column(codes),
            self._column(energy),
            cut(signatures, SIGNATURE_BYTES),
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
            "secret_hash": hexadecimal(secret, HASH_BYTES),
            "audit_height": height,
            "rates_ppm": [int(number, 16) for number in cut(rates_ppm, RATE_BYTES)],
            "sealer": sealer,
            "absences": ["0x" + signature for signature in cut(absences, SIGNATURE_BYTES)],
        }

    def assign(self, raw: Any) -> dict[str, Any]:
        round_, attempt, accepted, rejected, weightless, absent, flat, unreadable = raw
        reducers: list[dict[str, int]] = []
        for slot, witness, count in tuples(flat, 3):
            self._spend(count)
            reducers += [{"chunk": len(reducers) + place, "slot": slot, "witness": witness} for place in range(count)]
        return {
            "kind": "assign",
            "round": round_,
            "attempt": attempt,
            "accepted": self._list(accepted),
            "rejected": self._reasons(rejected),
            "weightless": self._list(weightless),
            "absent": self._list(absent),
            "reducers": reducers,
            "unreadable": parse_json(bytes(unreadable)) if unreadable else [],
        }

    def result(self, raw: Any) -> dict[str, Any]:
        round_, flat, sets, results, reductions, steps, cursor, returned = raw
        senders = [self._list(item) for item in sets]
        hashes = cut(results, HASH_BYTES)
        chunks: list[dict[str, Any]] = []
        for attempt, reducer, place, count in tuples(flat, 4):
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
                    "signature": "0x" + hexadecimal(signature, SIGNATURE_BYTES),
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
        nodes = [*(members[slot].node for slot in self._list(slots)), *addresses(others)]
        reports = [
            {"node": node, "signature": "0x" + signature}
            for node, signature in zip(nodes, cut(signatures, SIGNATURE_BYTES), strict=True)
        ]
        return {
            "kind": "close",
            "round": round_,
            "state_root": hexadecimal(root, HASH_BYTES),
            "reports": sorted(reports, key=lambda report: report["node"]),
            "forks": list(addresses(forks)),
        }

    def verdict(self, raw: Any) -> dict[str, Any]:
        round_, secret, block_hash, slots, findings, chunks, faults, tasks, claims = raw
        members = self.opens[round_].members
        judged = [
            asdict(
                Judged(slot, members[slot].node, outcome, evidence, reason, proof, tuple(residuals), tuple(segments))
            )
            for slot, (outcome, evidence, reason, proof, residuals, segments) in zip(
                self._list(slots), self._column(findings), strict=True
            )
        ]
        reductions = [
            asdict(ReductionJudged(chunk, slot, members[slot].node, outcome, reason))
            for chunk, (slot, outcome, reason) in zip(self._list(chunks), self._column(faults), strict=True)
        ]
        return {
            "kind": "verdict",
            "round": round_,
            "secret": hexadecimal(secret, HASH_BYTES) if secret else "",
            "block_hash": plain(block_hash),
            "judged": judged,
            "reductions": reductions,
            "tasks": parse_json(bytes(tasks)) if tasks else [],
            "claims": [self._claim(*item) for item in claims],
        }

    def _claim(self, slot: int, signer: int, reducer: int, attempt: int, *packed: Any) -> dict[str, Any]:
        chunks, payloads, late, signature = packed
        self._spend(1 + len(chunks))
        return {
            "slot": slot,
            "signer": signer,
            "reducer": reducer,
            "attempt": attempt,
            "chunks": chunks,
            "payloads": cut(payloads, HASH_BYTES),
            "late": late,
            "signature": "0x" + hexadecimal(signature, SIGNATURE_BYTES),
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
        for gap, length in tuples(runs, 2):
            self._spend(length)
            if gap < 0:
                raise ValueError("gap")
            numbers += range(end + gap, end + gap + length)
            end += gap + length
        return numbers

    def _column(self, packed: Any) -> list[Any]:
        table, runs = packed
        values: list[Any] = []
        for place, length in tuples(runs, 2):
            self._spend(length)
            if place < 0:
                raise ValueError("place")
            values += [table[place]] * length
        return values

    def _reasons(self, packed: Any) -> list[dict[str, Any]]:
        slots, reasons = packed
        pairs = zip(self._list(slots), self._column(reasons), strict=True)
        return [{"slot": slot, "reason": reason, "proof": proof} for slot, (reason, proof) in pairs]

    def _ranges(self, flat: Sequence[int]) -> list[Range]:
        pairs = [(start, end) for start, end in tuples(flat, 2)]
        if any(not 0 <= start < end for start, end in pairs):
            raise ValueError("range")
        self._spend(len(pairs))
        return pairs


_BODIES: dict[str, Callable[[Reader, Any], dict[str, Any]]] = {
    "open": Reader.open,
    "seal": Reader.seal,
    "assign": Reader.assign,
    "result": Reader.result,
    "close": Reader.close,
    "verdict": Reader.verdict,
}
