"""The text of ``model.json``: a loss as a list of ATen operator calls, as plain types and canonical bytes.

The file is canonical JSON (sorted keys, no white space, no floats), so its SHA-256 is the model's identity::

    {"batch_size": 8, "format": "anynode.graph", "version": 2,
     "inputs": {"tokens": {"dtype": "uint8", "shape": [8, 65]}},
     "parameters": {"head.weight": [256, 32]},                        every parameter is float32
     "constants": {"constant.0": {"dtype": "float32", "shape": [64, 64]}},
     "nodes": [{"operator": "aten.linear.default",
                "arguments": [{"node": "norm"}, {"parameter": "head.weight"}, {"none": true}],
                "outputs": [{"name": "linear", "dtype": "float32", "shape": [8, 64, 256]}]}],
     "loss": "cross_entropy_loss",
     "smaller": [{"batch_size": 4, "inputs": ..., "nodes": ..., "loss": ...}]}

``smaller`` holds the same loss for smaller batches, in descending order of size, for machines whose memory does not
take a whole batch at once: the loss of a batch is the mean of those of its parts.

An argument is an object with one key, its tag. A float is written as Python's ``float.hex`` gives it, so that it
survives exactly. Arguments follow the order of the operator's ATen schema, all of them written out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anynode_contracts.canonical import canonical_json

FORMAT = "anynode.graph"
VERSION = 2
DTYPES = ("bool", "float32", "int32", "int64", "uint8")
TENSOR_TAGS = ("constant", "input", "node", "parameter")


class GraphFault(ValueError):
    """What is wrong with a graph, as the middle of a sentence. Never leaves ``anynode.jobs``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of a graph that this machine will read. Elements are tensor values, not bytes; ``nodes`` counts
    those of all batch sizes.
    """

    file_bytes: int = 4 << 20
    nodes: int = 8_192
    smaller: int = 16
    inputs: int = 64
    parameters: int = 8_192
    constants: int = 1_024
    arguments: int = 16
    outputs: int = 1_024
    list_items: int = 1_024
    rank: int = 8
    tensor_elements: int = 1 << 29
    parameter_elements: int = 1 << 31
    activation_elements: int = 1 << 32


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Data type (one of ``DTYPES``) and full shape of a tensor; every size is at least 1."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Argument:
    """One operator argument: a tag ("int", "node", ...) and its value; "tensors" holds arguments."""

    tag: str
    value: Any


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call. ``outputs`` maps fresh names to what the call must give, in order."""

    operator: str
    arguments: tuple[Argument, ...]
    outputs: tuple[tuple[str, TensorSpec], ...]


@dataclass(frozen=True, slots=True)
class GraphText:
    """A parsed ``model.json``: well-formed and within limits; operators and shapes are not checked yet. Those in
    ``smaller`` share its parameters and constants.
    """

    batch_size: int
    inputs: Mapping[str, TensorSpec]
    parameters: Mapping[str, TensorSpec]
    constants: Mapping[str, TensorSpec]
    nodes: tuple[Node, ...]
    loss: str
    smaller: tuple[GraphText, ...] = ()

    @property
    def all_sizes(self) -> tuple[GraphText, ...]:
        """The graph of the whole batch, then those of smaller ones."""
        return self, *self.smaller


def encode(graph: GraphText) -> bytes:
    """The canonical bytes of ``graph``."""
    return canonical_json(
        {
            **_body_json(graph),
            "constants": {name: _spec_json(spec) for name, spec in graph.constants.items()},
            "format": FORMAT,
            "parameters": {name: list(spec.shape) for name, spec in graph.parameters.items()},
            "smaller": [_body_json(part) for part in graph.smaller],
            "version": VERSION,
        }
    )


def activation_elements(graph: GraphText) -> int:
    """Elements of all inputs and outputs of nodes together: a bound on what one forward pass keeps."""
    return sum(spec.elements for spec in graph.inputs.values()) + sum(
        spec.elements for node in graph.nodes for _, spec in node.outputs
    )


def _body_json(graph: GraphText) -> dict[str, Any]:
    return {
        "batch_size": graph.batch_size,
        "inputs": {name: _spec_json(spec) for name, spec in graph.inputs.items()},
        "loss": graph.loss,
        "nodes": [_node_json(node) for node in graph.nodes],
    }


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype, "shape": list(spec.shape)}


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "arguments": [_argument_json(argument) for argument in node.arguments],
        "operator": node.operator,
        "outputs": [{"name": name, **_spec_json(spec)} for name, spec in node.outputs],
    }


def _argument_json(argument: Argument) -> dict[str, Any]:
    value = argument.value
    match argument.tag:
        case "none":
            return {"none": True}
        case "float":
            return {"float": float(value).hex()}
        case "ints":
            return {"ints": list(value)}
        case "tensors":
            return {"tensors": [_argument_json(item) for item in value]}
        case tag:
            return {tag: value}
