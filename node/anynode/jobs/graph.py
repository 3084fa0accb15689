"""The reader of exported models: a loss function as data, run from an allow-list of ATen operators.

``Graph.parse`` checks everything before anything is run (see ``graph_parse``, ``operators``, ``graph_program``) and
gives an object whose :meth:`Graph.loss` computes, bit for bit, what the exported function computed. Nothing received
is ever imported, evaluated or unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from anynode.data.dtypes import TORCH_DTYPES
from anynode.jobs.graph_format import GraphFault, GraphText, Limits
from anynode.jobs.graph_parse import decode
from anynode.jobs.graph_program import Program, compile_program, dry_run
from anynode_contracts.errors import RefusedError

LIMITS = Limits()


class TensorType(NamedTuple):
    """Shape and data type of a parameter or constant."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Column(NamedTuple):
    """Data type and trailing shape of an input: a batch has the shape ``(batch_size, *shape)``."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A checked loss function of a batch, or of a part of one, of the ``batch_sizes``, which go down.

    ``inputs``, ``parameters`` (all float32) and ``constants`` are in name order. ``identity`` is the SHA-256 of the
    canonical JSON.
    """

    identity: str
    batch_sizes: tuple[int, ...]
    inputs: Mapping[str, Column]
    parameters: Mapping[str, TensorType]
    constants: Mapping[str, TensorType]
    _programs: Mapping[int, Program] = field(repr=False)
    _bound: Mapping[str, Tensor] = field(repr=False, default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Samples of a whole batch."""
        return self.batch_sizes[0]

    @property
    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(torch.Size(spec.shape).numel() for spec in self.parameters.values())

    @classmethod
    def parse(cls, data: bytes, limits: Limits = LIMITS) -> Graph:
        """Read the bytes of a ``model.json``. Raises ``RefusedError`` for anything but a well-formed graph."""
        try:
            text = decode(data, limits)
            programs = {part.batch_size: compile_program(part) for part in text.all_sizes}
            for part in text.all_sizes:
                dry_run(programs[part.batch_size], part, limits)
        except GraphFault as fault:
            raise RefusedError(
                f"the model graph is refused ({fault}); ask the owner of the job to make it again with `anynode export`"
            ) from fault
        return cls._from_text(text, programs, hashlib.sha256(data).hexdigest())

    @classmethod
    def _from_text(cls, text: GraphText, programs: Mapping[int, Program], identity: str) -> Graph:
        return cls(
            identity=identity,
            batch_sizes=tuple(programs),
            inputs={name: Column(TORCH_DTYPES[spec.dtype], spec.shape[1:]) for name, spec in text.inputs.items()},
            parameters={
                name: TensorType(spec.shape, TORCH_DTYPES[spec.dtype]) for name, spec in text.parameters.items()
            },
            constants={name: TensorType(spec.shape, TORCH_DTYPES[spec.dtype]) for name, spec in text.constants.items()},
            _programs=programs,
        )

    def with_constants(self, constants: Mapping[str, Tensor]) -> Graph:
        """The same graph holding its constants, which :meth:`loss` needs if there are any."""
        _check_tensors("constant", self.constants, constants)
        return replace(self, _bound=dict(constants))

    def on(self, device: str) -> Graph:
        """The same graph with its constants on ``device``, to be called with tensors there."""
        return replace(self, _bound={name: tensor.to(device) for name, tensor in self._bound.items()})

    def loss(self, params: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The scalar loss of one batch of a size in ``batch_sizes``, differentiable with respect to ``params``.

        ``params`` and ``batch`` must have exactly the names, shapes and data types of ``parameters`` and ``inputs``.
        Raises ``RefusedError`` if they do not, or if an operator refuses the values (an index out of range).
        """
        size = next((len(column) for column in batch.values() if column.dim()), 0)
        size = size if size in self._programs else self.batch_size
        program = self._programs[size]
        columns = {name: TensorType((size, *column.shape), column.dtype) for name, column in self.inputs.items()}
        _check_tensors("input", columns, batch)
        _check_tensors("parameter", self.parameters, params)
        if len(self._bound) != len(self.constants):
            raise RefusedError("the graph has constants that were not loaded; load the model with `load_model`")
        values = {"input": batch, "parameter": params, "constant": self._bound}
        leaves = [values[tag][name] for tag, name in program.leaves]
        try:
            return program.run(leaves, next(iter(params.values())).device)
        except GraphFault as fault:
            raise RefusedError(
                f"the model graph cannot take this batch ({fault}); check that the data set fits the model"
            ) from fault


def _check_tensors(what: str, expected: Mapping[str, TensorType], given: Mapping[str, Tensor]) -> None:
    if expected.keys() != given.keys():
        odd = sorted(expected.keys() ^ given.keys())[0]
        raise RefusedError(f"the {what} {odd} is missing or unknown; use files that were exported together")
    for name, spec in expected.items():
        tensor = given[name]
        if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
            raise RefusedError(
                f"the {what} {name} is {tensor.dtype} {tuple(tensor.shape)} where the graph wants {spec.dtype} "
                f"{spec.shape}; use files that were exported together"
            )
