"""A graph compiled to operator calls: arguments matched to the allow-list, shapes proved by a dry run without data.

The dry run executes forward and backward on ``meta`` tensors, which have a shape but no memory. Each output must be
what the file declares, and what an operator holds inside is bounded before it is called, so that no call can take
more memory than the limits allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anynode.data.dtypes import TORCH_DTYPES
from anynode.jobs.complaints import clipped
from anynode.jobs.graph_format import TENSOR_TAGS, Argument, GraphFault, GraphText, Limits, Node, TensorSpec
from anynode.jobs.operators import OPERATORS, Operator
from anynode.jobs.uncompiled import uncompiled


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the list of values that a run fills."""

    index: int


@dataclass(frozen=True, slots=True)
class Step:
    """One call: ``arguments`` hold slots, tuples of slots and constants; ``dropped`` slots have no later use."""

    position: int
    operator: Operator
    arguments: tuple[Any, ...]
    outputs: tuple[int, ...]
    specs: tuple[TensorSpec, ...]
    dropped: tuple[int, ...]

    @property
    def place(self) -> str:
        return f"node {self.position} ({self.operator.name})"

    def values(self, slots: Sequence[Tensor | None]) -> list[Any]:
        """The arguments with slots replaced by their tensors."""
        return [_filled(argument, slots) for argument in self.arguments]

    def call(self, values: Sequence[Any], device: torch.device) -> Sequence[Tensor]:
        """Call the operator and give its outputs as a sequence."""
        operator = self.operator
        result = operator.overload(*values[: operator.keyword_from], **operator.keywords(values, device))
        outputs: Sequence[Tensor] = result if operator.pieces else (result,)
        return outputs


@dataclass(frozen=True, slots=True)
class Program:
    """``leaves`` are inputs, parameters, constants as (tag, name) in slot order; ``loss`` is a slot."""

    leaves: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    slots: int
    loss: int

    def run(self, leaves: Sequence[Tensor], device: torch.device) -> Tensor:
        """The loss. Raises ``GraphFault`` with the failing node when torch refuses a call."""
        slots: list[Tensor | None] = [*leaves, *[None] * (self.slots - len(leaves))]
        for step in self.steps:
            try:
                outputs = step.call(step.values(slots), device)
            except Exception as error:
                raise _call_fault(step, error) from error
            _store(step, outputs, slots)
        return _present(slots[self.loss])


def compile_program(graph: GraphText) -> Program:
    """Match every node to the allow-list. Raises ``GraphFault`` for an unknown operator or argument kind."""
    tables = (("input", graph.inputs), ("parameter", graph.parameters), ("constant", graph.constants))
    leaves = tuple((tag, name) for tag, table in tables for name in table)
    places = {leaf: index for index, leaf in enumerate(leaves)}
    drafts: list[tuple[Operator, tuple[Any, ...], tuple[int, ...]]] = []
    for position, node in enumerate(graph.nodes):
        operator = _checked_operator(position, node)
        arguments = tuple(_compiled(argument, places) for argument in node.arguments)
        for name, _ in node.outputs:
            places["node", name] = len(places)
        drafts.append((operator, arguments, tuple(places["node", name] for name, _ in node.outputs)))
    loss = places["node", graph.loss]
    last_use = _last_uses(drafts)
    steps = tuple(
        Step(
            position=position,
            operator=operator,
            arguments=arguments,
            outputs=outputs,
            specs=tuple(spec for _, spec in graph.nodes[position].outputs),
            dropped=tuple(sorted(last_use[position] - {loss})),
        )
        for position, (operator, arguments, outputs) in enumerate(drafts)
    )
    return Program(leaves=leaves, steps=steps, slots=len(places), loss=loss)


def dry_run(program: Program, graph: GraphText, limits: Limits) -> None:
    """Forward and backward without data. Raises ``GraphFault`` where a shape, a bound or a gradient is wrong."""
    with uncompiled():
        _dry_run(program, graph, limits)


def _dry_run(program: Program, graph: GraphText, limits: Limits) -> None:
    device = torch.device("meta")
    tables = {"input": graph.inputs, "parameter": graph.parameters, "constant": graph.constants}
    leaves = [_meta(tables[tag][name], tag == "parameter") for tag, name in program.leaves]
    slots: list[Tensor | None] = [*leaves, *[None] * (program.slots - len(leaves))]
    for step in program.steps:
        values = step.values(slots)
        _check_bounds(step, values, limits)
        try:
            outputs = step.call(values, device)
        except Exception as error:
            raise _call_fault(step, error) from error
        _check_outputs(step, outputs)
        _store(step, outputs, slots)
    _check_gradients(program, leaves, _present(slots[program.loss]))


def _checked_operator(position: int, node: Node) -> Operator:
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise GraphFault(f"node {position} calls {clipped(node.operator)}, which is not an allowed operator")
    if len(node.arguments) != len(operator.kinds):
        raise GraphFault(
            f"node {position} gives {node.operator} {len(node.arguments)} arguments and it takes {len(operator.kinds)}"
        )
    for name, kind, argument in zip(operator.names, operator.kinds, node.arguments, strict=True):
        if not kind.accepts(argument):
            raise GraphFault(f"node {position} gives {node.operator} an argument {name!r} that is not allowed there")
    if operator.pieces is None and len(node.outputs) != 1:
        raise GraphFault(f"node {position} names {len(node.outputs)} outputs of {node.operator}, which has one")
    return operator


def _compiled(argument: Argument, places: Mapping[tuple[str, str], int]) -> Any:
    if argument.tag in TENSOR_TAGS:
        return Slot(places[argument.tag, argument.value])
    if argument.tag == "tensors":
        return tuple(Slot(places[item.tag, item.value]) for item in argument.value)
    if argument.tag == "dtype":
        return TORCH_DTYPES[argument.value]
    return argument.value


def _last_uses(drafts: Sequence[tuple[Operator, tuple[Any, ...], tuple[int, ...]]]) -> list[set[int]]:
    """For each step, the slots (its own unused outputs too) that no later step reads."""
    seen: set[int] = set()
    result: list[set[int]] = []
    for _, arguments, outputs in reversed(drafts):
        used = {slot.index for argument in arguments for slot in _slots(argument)} | set(outputs)
        result.append(used - seen)
        seen |= used
    return result[::-1]


def _slots(argument: Any) -> tuple[Slot, ...]:
    if isinstance(argument, Slot):
        return (argument,)
    return argument if isinstance(argument, tuple) and argument and isinstance(argument[0], Slot) else ()


def _filled(argument: Any, slots: Sequence[Tensor | None]) -> Any:
    if isinstance(argument, Slot):
        return _present(slots[argument.index])
    if isinstance(argument, tuple):
        return [_filled(item, slots) for item in argument]
    return argument


def _present(value: Tensor | None) -> Tensor:
    if value is None:
        raise GraphFault("a value is used after its last use")
    return value


def _store(step: Step, outputs: Sequence[Tensor], slots: list[Tensor | None]) -> None:
    for index, output in zip(step.outputs, outputs, strict=True):
        slots[index] = output
    for index in step.dropped:
        slots[index] = None


def _meta(spec: TensorSpec, trained: bool) -> Tensor:
    return torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype], device="meta", requires_grad=trained)


def _check_bounds(step: Step, values: Sequence[Any], limits: Limits) -> None:
    try:
        scratch = step.operator.scratch(values) if step.operator.scratch else 0
        pieces = step.operator.pieces(values) if step.operator.pieces else 1
    except GraphFault as fault:
        raise GraphFault(f"{step.place}: {fault}") from fault
    if scratch > limits.tensor_elements:
        raise GraphFault(f"{step.place} would hold {scratch} elements and {limits.tensor_elements} are allowed")
    if pieces != len(step.outputs):
        raise GraphFault(f"{step.place} names {len(step.outputs)} outputs and gives {pieces}")


def _check_outputs(step: Step, outputs: Sequence[Tensor]) -> None:
    if len(outputs) != len(step.specs):
        raise GraphFault(f"{step.place} names {len(step.specs)} outputs and gives {len(outputs)}")
    for spec, output in zip(step.specs, outputs, strict=True):
        if tuple(output.shape) != spec.shape or output.dtype != TORCH_DTYPES[spec.dtype]:
            raise GraphFault(f"{step.place} does not give the shape and data type that the file declares")
        if output.layout != torch.strided:
            raise GraphFault(f"{step.place} gives a tensor that is not dense")


def _check_gradients(program: Program, leaves: Sequence[Tensor], loss: Tensor) -> None:
    names = [name for tag, name in program.leaves if tag == "parameter"]
    parameters = [leaf for leaf, (tag, _) in zip(leaves, program.leaves, strict=True) if tag == "parameter"]
    if not loss.requires_grad:
        raise GraphFault("the loss does not depend on any parameter")
    try:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    except Exception as error:
        raise GraphFault(f"the loss has no gradient: {first_line(error)}") from error
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        if gradient is None:
            raise GraphFault(f"the loss does not depend on the parameter {name}")
        if gradient.shape != parameter.shape or gradient.layout != torch.strided:
            raise GraphFault(f"the gradient of the parameter {name} has another shape")


def _call_fault(step: Step, error: Exception) -> GraphFault:
    return GraphFault(f"{step.place} fails: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, cut, for use inside a sentence."""
    lines = str(error).strip().splitlines()
    return clipped(lines[0].rstrip(".")) if lines else type(error).__name__
