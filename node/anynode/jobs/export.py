"""Export of a model into a job's files: trace, check with the reader that peers use, compare, write.

    >>> graph = export(loss, params, example_batch, Path("model"))

writes ``model/model.json`` and ``model/model.safetensors``. It runs the owner's own code and is called on the
owner's own machine only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from anynode.jobs.graph import Graph, TensorType
from anynode.jobs.graph_format import encode
from anynode.jobs.parts import loss_and_gradients, with_parts
from anynode.jobs.trace import LossFunction, trace
from anynode.jobs.weights import check_tensor, write_tensors
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.files import write_aside


class Exportable(NamedTuple):
    """What a factory gives: ``loss(params, batch) -> scalar``, initial float32 parameters by name, and a batch.

    The example batch fixes the batch size: the first dimension of every column.
    """

    loss: LossFunction
    params: dict[str, Tensor]
    example_batch: dict[str, Tensor]


def export(
    loss_fn: LossFunction, params: Mapping[str, Tensor], example_batch: Mapping[str, Tensor], folder: Path
) -> Graph:
    """Trace ``loss_fn`` and write ``model.json`` and ``model.safetensors`` into ``folder``.

    It is traced for the size of the example batch and for its halvings (see ``parts``). The written graph gives bit for
    bit the loss and gradients of ``loss_fn`` on the example batch, or nothing is written. Raises ``UserError`` for what
    a job cannot hold.
    """
    params, batch = _checked(params, example_batch)
    text, constants = with_parts(loss_fn, params, batch, trace(loss_fn, params, batch))
    data = encode(text)
    try:
        graph = Graph.parse(data).with_constants(constants)
    except RefusedError as error:
        raise UserError(str(error)) from error
    for name, spec in graph.constants.items():
        check_tensor(name, constants[name], spec)
    for size in graph.batch_sizes:
        _compare(loss_fn, graph, params, {name: column[:size] for name, column in batch.items()})
    write_tensors(folder / "model.safetensors", {**params, **constants})
    write_aside(folder / "model.json", data)
    return graph


def _checked(params: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    if not params or not batch:
        raise UserError("there are no parameters or no batch columns to export; give both by name")
    held = {name: tensor.detach().clone().contiguous() for name, tensor in sorted(params.items())}
    for name, tensor in held.items():
        check_tensor(name, tensor, TensorType(tuple(tensor.shape), torch.float32))
    columns = {name: tensor.detach().clone().contiguous() for name, tensor in sorted(batch.items())}
    sizes = {tuple(tensor.shape[:1]) for tensor in columns.values()}
    if len(sizes) != 1 or () in sizes:
        raise UserError("the columns of the example batch differ in their first dimension; make it the batch size")
    return held, columns


def _compare(loss_fn: LossFunction, graph: Graph, params: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
    """Loss and gradients of graph and function must have the same bits: a trace may have fixed what is not fixed."""
    expected = loss_and_gradients(loss_fn, params, batch)
    given = loss_and_gradients(graph.loss, params, batch)
    for name, (left, right) in {name: (expected[name], given[name]) for name in expected}.items():
        if not torch.equal(left, right):
            raise UserError(
                f"the traced graph does not repeat the function ({name} differs); make the function deterministic, "
                "without randomness or hidden state"
            )
