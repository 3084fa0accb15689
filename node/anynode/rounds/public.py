"""A job's public records in a folder: everything from which anybody can audit it.

network.toml        whose signatures count, and which chain and contracts
files/              job.json, the model and the data that the job names
records.jsonl       the signed record chain
blobs/              every round's averaged chunks, by hash
ledger.json         the public ledger
model.safetensors   what the job has trained
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.rounds.chain import read_public
from anynode.rounds.records import SignedRecord
from anynode_contracts.errors import UserError


@dataclass(frozen=True, slots=True)
class PublicFolder:
    """The layout above, below ``path``."""

    path: Path

    @property
    def network_path(self) -> Path:
        return self.path / "network.toml"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def job_path(self) -> Path:
        return self.files / "job.json"

    @property
    def records_path(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def ledger_path(self) -> Path:
        return self.path / "ledger.json"

    @property
    def model_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.path / "blobs")

    def job(self) -> Job:
        """The job's description. Raises ``UserError`` when it is missing, ``RefusedError`` when it is damaged."""
        try:
            with self.job_path.open("rb") as file:
                return Job.from_bytes(file.read(JOB_BYTES_MAX + 1))
        except OSError as error:
            raise UserError(
                f"cannot read {self.job_path}: {error.strerror or error}; name a folder that `anynode result` wrote"
            ) from error

    def records(self) -> list[SignedRecord]:
        """The records, parsed but not yet verified."""
        return read_public(self.records_path)
