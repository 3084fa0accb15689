"""Tracing of a loss function into our own graph format, on the machine of its owner.

``torch.export`` records the ATen calls of a function of parameters and a batch. Composite operators such as linear
and attention stay whole, so that a graph is short and trains as fast as the function. What the trace adds and a graph
does not need (assertions about its inputs, dropout that is off, copies of constants) is taken out here.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from anynode.data.dtypes import DTYPE_NAMES, TORCH_DTYPES
from anynode.jobs.graph_format import Argument, GraphText, Node, TensorSpec
from anynode.jobs.graph_program import first_line
from anynode.jobs.operators import OPERATORS, Operator
from anynode_contracts.errors import UserError

LossFunction = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]

_SLICE_END = 2**63 - 1
_ASSERTIONS = frozenset({"aten._assert_tensor_metadata.default"})
_COPIES = frozenset({"aten.lift_fresh_copy.default", "aten.alias.default", "aten.detach_.default"})
_ADVICE = {
    "aten.batch_norm.default": "BatchNorm keeps running statistics, which a job cannot; use GroupNorm or LayerNorm",
    "aten.dropout.default": "dropout is random, which a job that is recomputed cannot be; set it to 0",
}


class _Traced(torch.nn.Module):
    """The function as ``torch.export`` wants it; holding it in a tuple keeps its modules' tensors out."""

    def __init__(self, loss: LossFunction) -> None:
        super().__init__()
        self._held = (loss,)

    def forward(self, params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return self._held[0](params, batch)


def trace(
    loss: LossFunction, params: Mapping[str, Tensor], batch: Mapping[str, Tensor]
) -> tuple[GraphText, dict[str, Tensor]]:
    """The graph of ``loss`` and the constants that it uses.

    Raises ``UserError`` for what a job cannot hold: an operator that is not allowed, state, randomness.
    """
    program = _exported(loss, dict(params), dict(batch))
    builder = _Builder(program, params, batch)
    for node in program.graph.nodes:
        builder.add(node)
    return builder.finished(next(iter(batch.values())).shape[0])


def _exported(loss: LossFunction, params: dict[str, Tensor], batch: dict[str, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(_Traced(loss), (params, batch), strict=False)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the loss function cannot be traced ({first_line(error)}); use fixed shapes, no data-dependent "
                "branches and only tensors from its two arguments"
            ) from error


class _Builder:
    """Turns the traced nodes, one after another, into the nodes of a :class:`GraphText`."""

    def __init__(self, program: Any, params: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        self.params, self.batch = params, batch
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}
        self.references: dict[fx.Node, Argument] = {}
        self.pieces: dict[fx.Node, tuple[Argument, ...]] = {}
        self.loss: fx.Node | None = None
        self._leaves = self._name_leaves(program)

    def _name_leaves(self, program: Any) -> dict[str, Argument | Tensor]:
        """What each placeholder stands for: dictionaries are flattened in their insertion order."""
        names = [Argument("parameter", name) for name in self.params]
        names += [Argument("input", name) for name in self.batch]
        leaves: dict[str, Argument | Tensor] = {}
        user = iter(names)
        for spec in program.graph_signature.input_specs:
            if spec.kind.name == "USER_INPUT":
                leaves[spec.arg.name] = next(user)
            else:
                held = program.state_dict.get(spec.target, program.constants.get(spec.target))
                if not isinstance(held, Tensor) or held.requires_grad:
                    raise UserError(
                        f"the loss function uses the tensor {spec.target} that is not among its parameters; "
                        "take every trained tensor from its first argument"
                    )
                leaves[spec.arg.name] = held
        if any(spec.kind.name != "USER_OUTPUT" for spec in program.graph_signature.output_specs):
            raise UserError(
                "the loss function changes a tensor that it did not make (running statistics, a counter); "
                "use layers without such state, GroupNorm instead of BatchNorm"
            )
        return leaves

    def add(self, node: fx.Node) -> None:
        """Take in one traced node."""
        arguments: list[Any] = list(node.args)
        target = str(node.target)
        if node.op == "placeholder":
            leaf = self._leaves[node.name]
            self.references[node] = self._constant(leaf) if isinstance(leaf, Tensor) else leaf
        elif node.op == "output":
            (outputs,) = arguments
            self.loss = outputs[0] if isinstance(outputs, (tuple, list)) and len(outputs) == 1 else None
        elif node.target is operator.getitem:
            source, place = arguments
            self.references[node] = self.pieces[source][place]
        elif target in _COPIES or _is_idle_dropout(node):
            self.references[node] = self.references[arguments[0]]
        elif target == "aten.broadcast_tensors.default":
            self._add_broadcast(node)
        elif target not in _ASSERTIONS:
            self._add_call(node)

    def finished(self, batch_size: int) -> tuple[GraphText, dict[str, Tensor]]:
        """The graph without nodes that the loss does not need."""
        loss = self.references.get(self.loss) if self.loss is not None else None
        if loss is None or loss.tag != "node":
            raise UserError("the loss function does not return one computed tensor; return the scalar loss alone")
        nodes = _needed(self.nodes, loss.value)
        used = {item.value for node in nodes for item in _references(node) if item.tag == "constant"}
        constants = {name: tensor for name, tensor in self.constants.items() if name in used}
        text = GraphText(
            batch_size=batch_size,
            inputs={name: _spec(name, tensor) for name, tensor in sorted(self.batch.items())},
            parameters={name: _spec(name, tensor) for name, tensor in sorted(self.params.items())},
            constants={name: _spec(name, tensor) for name, tensor in sorted(constants.items())},
            nodes=tuple(nodes),
            loss=loss.value,
        )
        return text, constants

    def _constant(self, tensor: Tensor) -> Argument:
        name = f"constant.{len(self.constants)}"
        self.constants[name] = tensor.detach().clone().contiguous()
        return Argument("constant", name)

    def _add_broadcast(self, node: fx.Node) -> None:
        """``broadcast_tensors`` is an expansion of each tensor that has not the common shape yet."""
        (sources,) = list[Any](node.args)
        pieces = []
        for place, (source, value) in enumerate(zip(sources, node.meta["val"], strict=True)):
            reference = self.references[source]
            if source.meta["val"].shape != value.shape:
                name, sizes = f"{node.name}_{place}", Argument("ints", tuple(value.shape))
                spec = _spec(node.name, value)
                self.nodes.append(Node("aten.expand.default", (reference, sizes), ((name, spec),)))
                reference = Argument("node", name)
            pieces.append(reference)
        self.pieces[node] = tuple(pieces)

    def _add_call(self, node: fx.Node) -> None:
        row = OPERATORS.get(_renamed(node))
        if row is None:
            raise UserError(f"the operator {node.target} is not allowed in a job; {_advice(node)}")
        outputs = node.meta["val"]
        if isinstance(outputs, (tuple, list)):
            named = [(f"{node.name}_{place}", _spec(node.name, item)) for place, item in enumerate(outputs)]
            self.pieces[node] = tuple(Argument("node", name) for name, _ in named)
        else:
            named = [(node.name, _spec(node.name, outputs))]
            self.references[node] = Argument("node", node.name)
        self.nodes.append(Node(row.name, self._arguments(node, row), tuple(named)))

    def _arguments(self, node: fx.Node, row: Operator) -> tuple[Argument, ...]:
        """All arguments of the allow-list's row, in its order, defaults filled in."""
        schema = {argument.name: argument for argument in row.overload._schema.arguments}
        given = dict(zip(schema, node.args, strict=False)) | node.kwargs
        if row.name == "aten.contiguous.default":
            given = {"self": given["self"]}
        for name in given.keys() - set(row.names):
            _check_omitted(str(node.target), name, given[name])
        arguments = []
        for name, kind in zip(row.names, row.kinds, strict=True):
            value = given[name] if name in given else schema[name].default_value
            if row.name == "aten.slice.Tensor" and name == "end" and value == _SLICE_END:
                value = None
            if "ints" in kind.tags and isinstance(value, int) and not isinstance(value, bool):
                value = [value]
            if "float" in kind.tags and "int" not in kind.tags and isinstance(value, int):
                value = float(value)
            arguments.append(self._argument(str(node.target), name, value))
        return tuple(arguments)

    def _argument(self, target: str, name: str, value: Any) -> Argument:
        match value:
            case fx.Node():
                return self.references[value]
            case None:
                return Argument("none", None)
            case bool():
                return Argument("bool", value)
            case int():
                return Argument("int", value)
            case float() if not math.isnan(value):
                return Argument("float", value)
            case str():
                return Argument("string", value)
            case torch.dtype() if value in DTYPE_NAMES:
                return Argument("dtype", DTYPE_NAMES[value])
            case list() | tuple() if value and all(isinstance(item, fx.Node) for item in value):
                return Argument("tensors", tuple(self.references[item] for item in value))
            case list() | tuple() if all(type(item) is int for item in value):
                return Argument("ints", tuple(value))
            case _:
                raise UserError(
                    f"the operator {target} is called with {name} = {str(value)[:80]!r}, which a job cannot hold; use "
                    f"fixed numbers and the data types {', '.join(TORCH_DTYPES)}"
                )


def _advice(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable:
        return "it changes a tensor: use inplace=False, and GroupNorm or LayerNorm where BatchNorm keeps statistics"
    return _ADVICE.get(str(node.target), "write the model with other operations")


def _renamed(node: fx.Node) -> str:
    """The allow-list's operator for a traced one: some have a plainer twin of the same value."""
    target = str(node.target)
    if target == "aten.clone.default" and node.kwargs.get("memory_format") is torch.contiguous_format:
        return "aten.contiguous.default"
    if target == "aten.numpy_T.default" and node.meta["val"].dim() == 2:
        return "aten.t.default"
    return target


def _is_idle_dropout(node: fx.Node) -> bool:
    return str(node.target) == "aten.dropout.default" and (node.args[1] in (0, 0.0) or node.args[2] is False)


def _check_omitted(target: str, name: str, value: Any) -> None:
    """Arguments that a graph does not carry must not matter: the CPU, dense, unpinned."""
    harmless = value in (None, False, torch.strided, torch.preserve_format, torch.contiguous_format)
    if name in {"copy", "implicit", "cudnn_enable", "cudnn_enabled"} or harmless:
        return
    if name == "device" and torch.device(value).type == "cpu":
        return
    raise UserError(f"the operator {target} is called with {name} = {value}, which a job cannot hold; leave it out")


def _spec(name: str, tensor: Any) -> TensorSpec:
    if not isinstance(tensor, Tensor) or tensor.dtype not in DTYPE_NAMES:
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(f"{name} is {kind}, which a job cannot hold; use tensors of {', '.join(TORCH_DTYPES)}")
    if not all(type(size) is int for size in tensor.shape):
        raise UserError(f"the shape of {name} depends on the data; use fixed shapes")
    return TensorSpec(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape))


def _references(node: Node) -> list[Argument]:
    found: list[Argument] = []
    for argument in node.arguments:
        found.extend(argument.value if argument.tag == "tensors" else (argument,))
    return found


def _needed(nodes: list[Node], loss: str) -> list[Node]:
    needed, kept = {loss}, []
    for node in reversed(nodes):
        if any(name in needed for name, _ in node.outputs):
            needed |= {item.value for item in _references(node) if item.tag == "node"}
            kept.append(node)
    return kept[::-1]
