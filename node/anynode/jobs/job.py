"""A resolved job: everything that a peer needs to know to take part, with its canonical form and its id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from anynode.jobs.complaints import first_complaint
from anynode.jobs.settings import Pay, Settings, Training, Workers
from anynode.rounds.quotas import quota_max
from anynode_contracts.canonical import canonical_json, hash_hex, parse_json
from anynode_contracts.errors import RefusedError

JOB_BYTES_MAX = 2 << 20
FILES_MAX = 4_096
FREE_SAMPLES_MAX = 1 << 62
FILE_BYTES_MAX = 1 << 40
REQUIRED_FILES = ("data.json", "model.json", "model.safetensors")

FileName = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9][a-z0-9_-]{0,47}\.(json|safetensors)\z")]
HashHex = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
JobName = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}\z")]


class FileRef(Settings):
    """A file of the job as a blob: the root of its manifest (kind "file") and its size in bytes."""

    root: HashHex
    size_bytes: int = Field(ge=1, le=FILE_BYTES_MAX)


class ModelRef(Settings):
    """The model's graph: ``identity`` is the SHA-256 of the canonical JSON in ``model.json``."""

    identity: HashHex
    parameters: int = Field(ge=1, le=10**11, description="number of trained values")


class DataRef(Settings):
    """The data set: ``hash`` is the BLAKE3 of ``data.json``."""

    hash: HashHex
    samples: int = Field(ge=1, le=10**12)
    validation_samples: int = Field(ge=0, le=10**12)


class Job(Settings):
    """A job as data, equal on every peer. ``files`` maps a safe name to a blob."""

    version: Literal[3] = 3
    name: JobName
    model: ModelRef
    data: DataRef
    files: Mapping[FileName, FileRef] = Field(max_length=FILES_MAX)
    training: Training
    workers: Workers
    pay: Pay

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        missing = [name for name in REQUIRED_FILES if name not in self.files]
        if missing:
            raise ValueError(f"the file {missing[0]} is not listed")
        return self

    @property
    def samples_max(self) -> int:
        """How many accepted samples the budget pays."""
        return (
            self.pay.budget_wei // self.pay.price_wei_per_sample if self.pay.price_wei_per_sample else FREE_SAMPLES_MAX
        )

    @property
    def cost_max_wei(self) -> int:
        """What the job costs when every round has its most members and each does all that a quota may be, or the budget
        if that is less.
        """
        training = self.training
        samples_a_round = quota_max(training.inner_steps_most * training.parts) * training.share_samples
        samples = samples_a_round * training.rounds * self.workers.max_workers
        return min(self.pay.budget_wei, samples * self.pay.price_wei_per_sample)

    def to_canonical(self) -> dict[str, Any]:
        """Integers, strings and dicts only; fractions and wei are text (see ``settings``)."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return dumped

    def to_bytes(self) -> bytes:
        """The canonical JSON that ``job_id`` is the hash of."""
        return canonical_json(self.to_canonical())

    @cached_property
    def job_id(self) -> str:
        """BLAKE3 of the canonical JSON: 64 lower-case hexadecimal digits, the job's id on the chain."""
        return hash_hex(self.to_bytes())

    @classmethod
    def from_canonical(cls, value: Mapping[str, Any]) -> Job:
        """Check what :meth:`to_canonical` gave. Raises ``RefusedError`` for anything else."""
        try:
            job = cls.model_validate(dict(value))
            given = canonical_json(dict(value))
        except ValidationError as error:
            raise RefusedError(
                f"the job description is refused ({first_complaint(error)}); ask its owner for a valid one"
            ) from error
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise RefusedError(
                "the job description holds a value that canonical JSON does not know; ask its owner for a valid one"
            ) from error
        if job.to_bytes() != given:
            raise RefusedError("the job description is not in canonical form; ask its owner for a valid one")
        return job

    @classmethod
    def from_bytes(cls, data: bytes, *, job_id: str | None = None) -> Job:
        """Parse bytes from a peer or a file. Raises ``RefusedError``, also when they are not the job ``job_id``."""
        if len(data) > JOB_BYTES_MAX:
            raise RefusedError(
                f"a job description of {len(data)} bytes is over the limit; ask its owner for a valid one"
            )
        if job_id is not None and hash_hex(data) != job_id:
            raise RefusedError(f"the job description does not hash to {job_id[:16]}…; ask another peer")
        try:
            value = parse_json(data)
        except (ValueError, RecursionError) as error:
            raise RefusedError("the job description is not JSON; ask its owner for a valid one") from error
        if not isinstance(value, dict):
            raise RefusedError("the job description is not a JSON object; ask its owner for a valid one")
        job = cls.from_canonical(value)
        if job.to_bytes() != data:
            raise RefusedError("the job description is not in canonical form; ask its owner for a valid one")
        return job
