"""A job's record chain on disk: one signed record a line, synced before it is spoken of, checked when it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from anynode.rounds.certificates import Verifiers, check_certificate, check_words
from anynode.rounds.course import Seal
from anynode.rounds.records import GENESIS, Record, SignedRecord
from anynode.rounds.roster import Roster
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.files import append_synced
from anynode_contracts.signing import SigningDomain

_signed: TypeAdapter[SignedRecord] = TypeAdapter(SignedRecord)


def verify(
    records: Iterable[SignedRecord],
    job: str,
    domain: SigningDomain,
    verifiers: Verifiers,
    *,
    height: int = 0,
    previous: str = GENESIS,
) -> None:
    """Check that records continue a chain of ``job`` and that enough verifiers of the network signed each.

    Raises ``RefusedError`` with the first record that does not.
    """
    for signed in records:
        record = signed.record
        if (record.job, record.height, record.previous) != (job, height, previous):
            raise RefusedError(f"record {record.height} of job {job[:16]}… breaks the hash chain; ask another peer")
        check_certificate(signed, domain, verifiers)
        if isinstance(record.body, Seal):
            check_words(record.body, job, domain, verifiers.addresses)
        height, previous = height + 1, record.hash


class RecordLog:
    """The records of one job below ``path``, all noted in ``roster``; `append` returns once they are on the disk."""

    def __init__(self, path: Path, job: str) -> None:
        self.path, self.job = path, job
        self.records: list[SignedRecord] = []
        self.roster = Roster()

    @property
    def head(self) -> str:
        return self.records[-1].record.hash if self.records else GENESIS

    @property
    def bodies(self) -> list[Record]:
        return [signed.record for signed in self.records]

    def load(self, domain: SigningDomain, verifiers: Verifiers) -> None:
        """Read and check what an earlier run kept. A last line cut short by a crash is dropped.

        Raises ``UserError`` when the file is damaged.
        """
        if not self.path.exists():
            return
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        records: list[SignedRecord] = []
        try:
            records.extend(_signed.validate_json(line) for line in whole.splitlines())
            verify(records, self.job, domain, verifiers)
        except (ValidationError, RefusedError) as error:
            what = f"its line {len(records) + 1} is no record" if isinstance(error, ValidationError) else f"{error}"
            raise UserError(f"the record chain {self.path} is damaged: {what}; remove it to fetch it anew") from error
        self.records = records
        self.roster = Roster(signed.record for signed in records)
        if len(whole) != len(raw):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def append(self, records: Iterable[SignedRecord]) -> None:
        """Append records that `verify` has accepted. Raises ``StorageError`` when the disk is full."""
        new = list(records)
        data = b"".join(canonical_json(asdict(signed)) + b"\n" for signed in new)
        append_synced(self.path, data)
        for signed in new:
            self.roster.note(signed.record)
        self.records.extend(new)


def read_public(path: Path) -> list[SignedRecord]:
    """The records in a published file, parsed and limited but not yet verified.

    Raises ``UserError`` when there is no such file, ``RefusedError`` with the first line that is no signed record.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; name the folder that holds a job's public records"
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_signed.validate_json(line))
        except ValidationError as error:
            raise RefusedError(f"line {number} of {path} is not a signed record; fetch it again") from error
    return records
