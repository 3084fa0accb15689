"""Frozen thresholds: what a verifier takes for honest between two hardware classes, signed, with what it rests on.

The file holds canonical JSON: the entries, and the EIP-712 signature of a verifier of the network over their hash. A
pair of classes has an entry for each phase. Entries are frozen before the round that uses them: its opening names their
hash, and a running job goes by those that were there when it was loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, MaxLen
from blake3 import blake3
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.device.hardware import precision_of
from anynode.jobs.settings import Training
from anynode.rounds.ids import Hash, Signature
from anynode.training.messages import Phase
from anynode_contracts.canonical import canonical_json, parse_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.signing import SigningDomain, Statement, recover, sign
from anynode_verifier.drift import Distance, drift_of, thresholds_from
from anynode_verifier.gathering import Sample

THRESHOLDS_FILE = "thresholds.json"
SEGMENTS_MIN = 100
SEEDS_MIN = 3
ENTRIES_MAX = 10_000
FILE_BYTES_MAX = 16 << 20
_STRICT = ConfigDict(strict=True, extra="forbid")

Count = Annotated[int, Ge(0), Le(1 << 40)]
ClassLine = Annotated[str, MaxLen(300)]
Micros = Annotated[int, Ge(0), Le(1 << 53)]


@dataclass(frozen=True, slots=True)
class Limit:
    """The threshold of one vector, in millionths: see `drift.Distance`."""

    __pydantic_config__ = _STRICT
    vector: Annotated[str, MaxLen(40)]
    whole_ppm: Micros
    tensor_ppm: Micros
    norm_ppm: Micros

    def distance(self) -> Distance:
        return Distance(self.whole_ppm / 1e6, self.tensor_ppm / 1e6, self.norm_ppm / 1e6)


@dataclass(frozen=True, slots=True)
class Entry:
    """Thresholds of one pair of classes in one phase. They rest on ``segments`` honest segments, drawn with ``seeds``
    seeds, of the ``models`` (graph identities).
    """

    __pydantic_config__ = _STRICT
    worker: ClassLine
    auditor: ClassLine
    phase: Phase
    segments: Count
    seeds: Count
    models: Annotated[tuple[Hash, ...], MaxLen(100)]
    limits: Annotated[tuple[Limit, ...], MaxLen(8)]


@dataclass(frozen=True, slots=True)
class _Frozen:
    __pydantic_config__ = _STRICT
    entries: Annotated[tuple[Entry, ...], MaxLen(ENTRIES_MAX)]
    verifier: Annotated[str, MaxLen(42)]
    signature: Signature


_frozen: TypeAdapter[_Frozen] = TypeAdapter(_Frozen)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All that is frozen for a network."""

    entries: tuple[Entry, ...] = ()

    @property
    def digest(self) -> str:
        """BLAKE3 of the canonical JSON: what is signed, and what a round's opening names."""
        return blake3(canonical_json([asdict(entry) for entry in self.entries])).hexdigest()

    def between(self, worker: str, auditor: str, phase: Phase) -> dict[str, Distance]:
        """The thresholds by vector, none where the pair has not been calibrated."""
        for entry in self.entries:
            if (entry.worker, entry.auditor, entry.phase) == (worker, auditor, phase):
                return {limit.vector: limit.distance() for limit in entry.limits}
        return {}

    def covers(self, worker: str, auditor: str, training: Training) -> bool:
        """Whether work of a job can be judged between two classes: in each of its phases, by each of its vectors."""
        wanted = set(training.compared_vectors)
        phases: list[Phase] = ["fresh", "moments"] if training.publishes_moments else ["fresh"]
        return all(self.between(worker, auditor, phase).keys() >= wanted for phase in phases)

    def workers(self, auditor: str, training: Training) -> frozenset[str]:
        """The classes whose work an auditor of a class can judge tolerantly."""
        lines = {entry.worker for entry in self.entries if entry.auditor == auditor}
        return frozenset(line for line in lines if self.covers(line, auditor, training))

    def replaced(self, entries: Iterable[Entry]) -> Thresholds:
        """With new entries in the place of those of the same pairs and phases."""
        all_of = {(item.worker, item.auditor, item.phase): item for item in (*self.entries, *entries)}
        return Thresholds(tuple(all_of[key] for key in sorted(all_of)))


def short_of(samples: Sequence[Sample], phases: Iterable[Phase]) -> str:
    """How many more samples are needed before anything is frozen, in words, or nothing."""
    wants = []
    for phase in phases:
        there = [item for item in samples if item.phase == phase]
        seeds = len({item.seed for item in there})
        if len(there) < SEGMENTS_MIN:
            wants.append(f"{SEGMENTS_MIN - len(there)} more segments of phase {phase}")
        if seeds < SEEDS_MIN:
            wants.append(f"{SEEDS_MIN - seeds} more seeds of phase {phase}")
    return " and ".join(wants)


def calibrate(
    worker: str, auditor: str, samples: Sequence[Sample], models: Iterable[str], phases: Sequence[Phase]
) -> tuple[Entry, ...]:
    """The entries of a pair of classes. Raises ``RefusedError`` for too few samples or classes of two data types."""
    precision = precision_of(worker)
    if precision != precision_of(auditor):
        raise RefusedError(
            "work in float32 and in bfloat16 is not compared: between them the smaller type would pass for the larger; "
            "choose one precision for both classes"
        )
    if missing := short_of(samples, phases):
        raise RefusedError(f"too few honest samples to freeze thresholds: {missing} are needed; use more --seeds")
    names = tuple(sorted(set(models)))
    counts = Counter(item.phase for item in samples)
    entries = []
    for phase in phases:
        there = [item for item in samples if item.phase == phase]
        limits = thresholds_from((drift_of(item.sums) for item in there), precision)
        seeds = len({item.seed for item in there})
        found = tuple(_limit(vector, limits[vector]) for vector in sorted(limits))
        entries.append(Entry(worker, auditor, phase, counts[phase], seeds, names, found))
    return tuple(entries)


def freeze(path: Path, thresholds: Thresholds, account: LocalAccount, domain: SigningDomain) -> None:
    """Sign and write all entries, aside and renamed. Raises ``StorageError`` when they cannot be written."""
    signature = sign(account, domain, thresholds_statement(thresholds))
    entries = [asdict(entry) for entry in thresholds.entries]
    body = {"entries": entries, "verifier": account.address, "signature": signature}
    write_aside(path, canonical_json(body))


def frozen(path: Path, verifiers: Sequence[str], domain: SigningDomain) -> Thresholds:
    """Read what was frozen, none where there is no file.

    Raises ``RefusedError`` unless it is signed by a verifier of the network, ``UserError`` for a damaged file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return Thresholds()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        found = _frozen.validate_json(canonical_json(parse_json(raw)))
    except (ValidationError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged; remove it and run `anynode verifier calibrate` again") from error
    thresholds = Thresholds(found.entries)
    signer = recover(domain, thresholds_statement(thresholds), found.signature)
    if signer != found.verifier or signer.lower() not in {address.lower() for address in verifiers}:
        raise RefusedError(f"{path} is not signed by a verifier of this network; calibrate again with its wallet")
    return thresholds


def thresholds_statement(thresholds: Thresholds) -> Statement:
    """The EIP-712 struct that a verifier signs to freeze thresholds for its network."""
    return Statement("Thresholds", (("entries", "bytes32"),), {"entries": bytes.fromhex(thresholds.digest)})


def _limit(vector: str, limit: Distance) -> Limit:
    """Rounded up to whole millionths, so that the file holds integers alone."""
    whole, tensor, norm = (-int(-value * 1e6 // 1) for value in (limit.whole, limit.tensor, limit.norm))
    return Limit(vector, whole, tensor, norm)
