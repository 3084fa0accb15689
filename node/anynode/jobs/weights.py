"""Weights on disk: the safetensors file of a graph, read with every name, shape and value checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anynode.jobs.complaints import clipped
from anynode.jobs.graph import Graph, TensorType
from anynode_contracts.errors import UserError

_HEADER_BYTES_MAX = 4 << 20


@dataclass(frozen=True)
class Model:
    """A graph that holds its constants, and the initial value of every parameter (float32, by name)."""

    graph: Graph
    parameters: dict[str, Tensor]


def load_model(folder: Path) -> Model:
    """Read ``model.json`` and ``model.safetensors`` from ``folder``.

    Raises ``UserError`` when a file is missing, ``RefusedError`` when the graph is not allowed, and ``UserError``
    when the weights do not belong to it or are not finite.
    """
    graph = load_graph(folder / "model.json")
    tensors = read_weights(folder / "model.safetensors", graph)
    constants = {name: tensors.pop(name) for name in graph.constants}
    return Model(graph.with_constants(constants), tensors)


def load_graph(path: Path) -> Graph:
    """Read one ``model.json``."""
    try:
        return Graph.parse(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; make the model with `anynode export`") from error


def read_weights(path: Path, graph: Graph) -> dict[str, Tensor]:
    """Parameters and constants of ``graph`` by name, on the CPU. NaN and infinity are refused."""
    expected = {**graph.parameters, **graph.constants}
    payload = sum(_size_bytes(spec) for spec in expected.values())
    try:
        if path.stat().st_size > payload + _HEADER_BYTES_MAX:
            raise UserError(f"{path} is larger than the model's graph allows; export graph and weights together")
        with safe_open(path, framework="pt", device="cpu") as file:
            if set(file.keys()) != expected.keys():
                odd = clipped(sorted(set(file.keys()) ^ expected.keys())[0])
                raise UserError(f"{path} and the graph do not agree on {odd}; export graph and weights together")
            tensors = {name: file.get_tensor(name) for name in expected}
    except OSError as error:
        reason = error.strerror or clipped(str(error))
        raise UserError(f"cannot read {path}: {reason}; make the model with `anynode export`") from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file; make the model with `anynode export`") from error
    for name, spec in expected.items():
        check_tensor(name, tensors[name], spec)
    return tensors


def check_tensor(name: str, tensor: Tensor, spec: TensorType) -> None:
    """Raise ``UserError`` unless ``tensor`` is what the graph says and, as a float, finite."""
    if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
        raise UserError(f"the weight {name} has another shape or type than in the graph; export both together")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise UserError(f"the weight {name} holds NaN or infinity; export a model with finite weights")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file aside, sync it and rename it. Raises ``UserError`` when the disk refuses."""
    handle, aside = -1, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
        os.close(handle)
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, aside)
        with Path(aside).open("rb+") as file:
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except (OSError, SafetensorError) as error:
        if aside:
            Path(aside).unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or clipped(str(error))
        raise UserError(f"cannot write {path}: {reason}; free some space or choose another folder") from error


def _size_bytes(spec: TensorType) -> int:
    return int(torch.Size(spec.shape).numel() * spec.dtype.itemsize)
