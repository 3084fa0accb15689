"""Reading of a packed data set: every shard is checked against its hash before a sample is used."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from torch import Tensor

from anynode.data.dtypes import TORCH_DTYPES
from anynode.data.manifest import DATA_FILE, ColumnSpec, DataManifest, Shard, Split
from anynode_contracts.errors import UserError

_REMEDY = "pack the data set again with `anynode data pack`, or fetch it again"


@dataclass(frozen=True)
class _Rows:
    """The shards of one split as tensors, and the running number of samples after each."""

    shards: tuple[Mapping[str, Tensor], ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class DataSet:
    """An opened data set. ``samples`` counts the train split, ``validation_samples`` the other."""

    manifest: DataManifest
    _splits: Mapping[Split, _Rows]

    @classmethod
    def open(cls, folder: Path) -> DataSet:
        """Open ``folder/data.json`` and all its shards.

        Raises ``UserError`` for a missing or damaged file, and for a data set without a training sample.
        """
        manifest = DataManifest.from_bytes(_read(folder / DATA_FILE))
        if not manifest.train:
            raise UserError(f"the data set in {folder} has no training sample; {_REMEDY}")
        splits: dict[Split, _Rows] = {
            "train": _open_shards(folder, manifest, manifest.train),
            "validation": _open_shards(folder, manifest, manifest.validation),
        }
        return cls(manifest, splits)

    @property
    def samples(self) -> int:
        return self.manifest.samples("train")

    @property
    def validation_samples(self) -> int:
        return self.manifest.samples("validation")

    @property
    def columns(self) -> Mapping[str, ColumnSpec]:
        return self.manifest.columns

    @property
    def hash(self) -> str:
        return self.manifest.hash

    def batch(self, indices: Sequence[int], split: Split = "train") -> dict[str, Tensor]:
        """The samples numbered ``indices`` (repeats allowed), stacked in that order: [len(indices), ...] a column."""
        rows = self._splits[split]
        count = rows.ends[-1] if rows.ends else 0
        if not indices or min(indices) < 0 or max(indices) >= count:
            raise UserError(f"a sample outside the {count} of the {split} split was asked for; use numbers from 0")
        places = []
        for index in indices:
            shard = bisect_right(rows.ends, index)
            places.append((shard, index - (rows.ends[shard - 1] if shard else 0)))
        return {name: torch.stack([rows.shards[shard][name][row] for shard, row in places]) for name in self.columns}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {_REMEDY}") from error


def _open_shards(folder: Path, manifest: DataManifest, shards: Sequence[Shard]) -> _Rows:
    opened = tuple(_open_shard(folder / shard.file, shard, manifest) for shard in shards)
    return _Rows(opened, tuple(accumulate(shard.samples for shard in shards)))


def _open_shard(path: Path, shard: Shard, manifest: DataManifest) -> dict[str, Tensor]:
    """The tensors of one shard, mapped from disk after its hash was checked."""
    try:
        if path.stat().st_size != shard.size_bytes:
            raise UserError(f"the shard {path} has another size than {DATA_FILE} says; {_REMEDY}")
        if blake3(max_threads=1).update_mmap(path).hexdigest() != shard.hash:
            raise UserError(f"the shard {path} does not have the hash that {DATA_FILE} says; {_REMEDY}")
        with safe_open(path, framework="pt", device="cpu") as file:
            if set(file.keys()) != manifest.columns.keys():
                raise UserError(f"the shard {path} has other columns than {DATA_FILE} says; {_REMEDY}")
            tensors = {name: file.get_tensor(name) for name in manifest.columns}
    except OSError as error:
        reason = error.strerror or "not a readable file"
        raise UserError(f"cannot read the shard {path}: {reason}; {_REMEDY}") from error
    except SafetensorError as error:
        raise UserError(f"the shard {path} is not a safetensors file; {_REMEDY}") from error
    for name, column in manifest.columns.items():
        expected = (shard.samples, *column.shape)
        if tuple(tensors[name].shape) != expected or tensors[name].dtype != TORCH_DTYPES[column.dtype]:
            raise UserError(f"the column {name} of {path} has another shape than {DATA_FILE} says; {_REMEDY}")
    return tensors
