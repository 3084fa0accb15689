"""``data.json``: the columns of a data set and the shards that hold its samples, checked when read."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from anynode.jobs.complaints import first_complaint
from anynode_contracts.canonical import canonical_json, hash_hex, parse_json
from anynode_contracts.errors import UserError

DATA_FILE = "data.json"
MANIFEST_BYTES_MAX = 4 << 20
SHARDS_MAX = 4_000
SAMPLE_BYTES_MAX = 1 << 26
SHARD_BYTES_MAX = 1 << 32
ITEM_BYTES = {"bool": 1, "float32": 4, "int32": 4, "int64": 8, "uint8": 1}

ColumnName = Annotated[str, StringConstraints(pattern=r"\A[a-z][a-z0-9_]{0,63}\z")]
ShardName = Annotated[str, StringConstraints(pattern=r"\A(train|validation)-[0-9]{5}\.safetensors\z")]
DType = Literal["bool", "float32", "int32", "int64", "uint8"]
Split = Literal["train", "validation"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ColumnSpec(_Part):
    """Data type and shape of one sample's value (without the sample dimension)."""

    dtype: DType
    shape: tuple[Annotated[int, Field(ge=1, le=1 << 26)], ...] = Field(max_length=7)

    @property
    def sample_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


class Shard(_Part):
    """One safetensors file of ``samples`` rows of every column; ``hash`` is the BLAKE3 of its bytes."""

    file: ShardName
    samples: int = Field(ge=1, le=1 << 40)
    size_bytes: int = Field(ge=1, le=SHARD_BYTES_MAX)
    hash: Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]


class DataManifest(_Part):
    """The whole of ``data.json``. Samples are numbered through the shards of a split, in order, from 0."""

    format: Literal["anynode.data"] = "anynode.data"
    version: Literal[1] = 1
    columns: dict[ColumnName, ColumnSpec] = Field(min_length=1, max_length=64)
    train: tuple[Shard, ...] = Field(max_length=SHARDS_MAX)
    validation: tuple[Shard, ...] = Field(max_length=SHARDS_MAX)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [shard.file for shard in self.shards]
        if len(set(names)) != len(names) or len(names) > SHARDS_MAX:
            raise ValueError("a shard is listed twice, or there are too many")
        for split, shards in (("train", self.train), ("validation", self.validation)):
            if any(not shard.file.startswith(f"{split}-") for shard in shards):
                raise ValueError(f"a shard of another split is listed under {split}")
        if self.sample_bytes > SAMPLE_BYTES_MAX:
            raise ValueError(f"a sample has {self.sample_bytes} bytes and {SAMPLE_BYTES_MAX} are allowed")
        return self

    @property
    def shards(self) -> tuple[Shard, ...]:
        return self.train + self.validation

    @property
    def sample_bytes(self) -> int:
        return sum(column.sample_bytes for column in self.columns.values())

    def samples(self, split: Split) -> int:
        """Number of samples of a split."""
        return sum(shard.samples for shard in (self.train if split == "train" else self.validation))

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """BLAKE3 of the canonical JSON: the data set's name, since it holds the hashes of all shards."""
        return hash_hex(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> DataManifest:
        """Parse a ``data.json``. Raises ``UserError`` with what is wrong."""
        remedy = "pack the data set again with `anynode data pack`"
        if len(data) > MANIFEST_BYTES_MAX:
            raise UserError(f"{DATA_FILE} has {len(data)} bytes, more than {MANIFEST_BYTES_MAX}; {remedy}")
        try:
            parse_json(data)
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise UserError(f"{DATA_FILE} is not valid ({first_complaint(error)}); {remedy}") from error
        except ValueError as error:
            raise UserError(f"{DATA_FILE} is not JSON; {remedy}") from error
        if manifest.to_bytes() != data:
            raise UserError(f"{DATA_FILE} is not in canonical form; {remedy}")
        return manifest
