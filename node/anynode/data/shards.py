"""Writing of a data set: samples go to shards of the train or validation split, and a manifest closes it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from anynode.data.dtypes import DTYPE_NAMES, TORCH_DTYPES
from anynode.data.manifest import DATA_FILE, SAMPLE_BYTES_MAX, ColumnSpec, DataManifest, Shard, Split
from anynode.jobs.complaints import first_complaint
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

SHARD_BYTES = 32 << 20
_BLOCK_SAMPLES = 16


class DataSetWriter:
    """Collects samples in order; on a clean exit ``folder`` appears whole, otherwise not at all.

    Every ``validation_every``-th block of 16 samples goes to the validation split (0 = none): neighbours stay
    together, and the split looks like the whole. A data set of two samples or more has at least one of each.
    """

    def __init__(self, folder: Path, *, validation_every: int, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.validation_every, self.shard_bytes = folder, validation_every, shard_bytes
        self.manifest: DataManifest | None = None
        self._columns: dict[str, ColumnSpec] = {}
        self._waiting: dict[Split, list[dict[str, Tensor]]] = {"train": [], "validation": []}
        self._shards: dict[Split, list[Shard]] = {"train": [], "validation": []}
        self.count = 0

    def __enter__(self) -> Self:
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{self.folder} exists and is not empty; remove it or choose another --out")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=self.folder.parent))
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}; choose another --out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._close()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Append samples: tensors of one common first dimension."""
        specs = {name: _column_spec(name, tensor) for name, tensor in sorted(columns.items())}
        if self._columns and specs != self._columns:
            raise UserError("samples differ in columns, shapes or data types; pack samples of one form")
        counts = {tensor.shape[0] for tensor in columns.values()}
        if len(counts) != 1:
            raise UserError("the columns have different numbers of samples; give every sample every column")
        if sum(column.sample_bytes for column in specs.values()) > SAMPLE_BYTES_MAX:
            raise UserError(f"a sample has more than {SAMPLE_BYTES_MAX} bytes; pack smaller samples")
        self._columns = specs
        numbers = torch.arange(self.count, self.count + counts.pop())
        self.count += len(numbers)
        held_out = torch.zeros(len(numbers), dtype=torch.bool)
        if self.validation_every:
            held_out = (numbers // _BLOCK_SAMPLES) % self.validation_every == self.validation_every - 1
        self._append("train", {name: tensor[~held_out] for name, tensor in columns.items()})
        self._append("validation", {name: tensor[held_out] for name, tensor in columns.items()})

    def _append(self, split: Split, rows: dict[str, Tensor]) -> None:
        if _length(rows):
            self._waiting[split].append(rows)
        while sum(map(_length, self._waiting[split])) > self._samples_per_shard:
            self._write(split, self._samples_per_shard)

    @property
    def _samples_per_shard(self) -> int:
        return max(1, self.shard_bytes // sum(column.sample_bytes for column in self._columns.values()))

    def _write(self, split: Split, count: int) -> None:
        joined = {name: torch.cat([rows[name] for rows in self._waiting[split]]) for name in self._columns}
        shard = {name: tensor[:count].contiguous() for name, tensor in joined.items()}
        rest = {name: tensor[count:] for name, tensor in joined.items()}
        self._waiting[split] = [rest] if _length(rest) else []
        data = save(shard)
        file = f"{split}-{len(self._shards[split]):05d}.safetensors"
        write_aside(self._aside / file, data)
        self._shards[split].append(Shard(file=file, samples=_length(shard), size_bytes=len(data), hash=hash_hex(data)))

    def _close(self) -> None:
        if not self.count:
            raise UserError("the data set is empty; give at least one sample")
        if self.validation_every and not self._waiting["validation"] and not self._shards["validation"]:
            self._hold_out_last()
        for split in self._waiting:
            if self._waiting[split]:
                self._write(split, sum(map(_length, self._waiting[split])))
        try:
            self.manifest = DataManifest(
                columns=self._columns,
                train=tuple(self._shards["train"]),
                validation=tuple(self._shards["validation"]),
            )
        except ValidationError as error:
            raise UserError(
                f"the data set cannot be packed ({first_complaint(error)}); change its columns or use larger shards"
            ) from error
        write_aside(self._aside / DATA_FILE, self.manifest.to_bytes())
        try:
            self._aside.replace(self.folder)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}; choose another --out") from error
        self.folder.chmod(0o755)

    def _hold_out_last(self) -> None:
        """Too few samples for a block of their own: the last one is for validation."""
        if self.count < 2:
            return
        last = self._waiting["train"].pop()
        self._waiting["validation"] = [{name: tensor[-1:] for name, tensor in last.items()}]
        if _length(last) > 1:
            self._waiting["train"].append({name: tensor[:-1] for name, tensor in last.items()})


def _column_spec(name: str, tensor: Tensor) -> ColumnSpec:
    if tensor.dtype not in DTYPE_NAMES or tensor.dim() < 1:
        raise UserError(
            f"the column {name} is {tensor.dtype} {tuple(tensor.shape)}; "
            f"use {', '.join(TORCH_DTYPES)} with one row a sample"
        )
    try:
        return ColumnSpec.model_validate({"dtype": DTYPE_NAMES[tensor.dtype], "shape": tuple(tensor.shape[1:])})
    except ValidationError as error:
        raise UserError(f"the column {name} cannot be packed ({first_complaint(error)}); reshape it") from error


def _length(rows: Mapping[str, Tensor]) -> int:
    return int(next(iter(rows.values())).shape[0])
