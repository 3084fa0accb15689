"""The parser of ``model.json``: limits, names and kinds are checked here, without torch, before anything runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pydantic_core import from_json

from anynode.jobs.complaints import clipped
from anynode.jobs.graph_format import (
    DTYPES,
    FORMAT,
    TENSOR_TAGS,
    VERSION,
    Argument,
    GraphFault,
    GraphText,
    Limits,
    Node,
    TensorSpec,
    activation_elements,
    encode,
)

_OUTPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PARAMETER_NAME = re.compile(r"(?!constant\.)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_CONSTANT_NAME = re.compile(r"constant\.(0|[1-9][0-9]{0,5})")
_OPERATOR_NAME = re.compile(r"aten\.[A-Za-z0-9_]{1,64}\.[A-Za-z_]{1,64}")
_WORD = re.compile(r"[a-z_]{1,16}")
_HEX_FLOAT = re.compile(r"-?(0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|inf)")
_NAME_CHARACTERS_MAX = 128
_INT_MAX = 2**63 - 1
_BODY_KEYS = {"batch_size", "inputs", "loss", "nodes"}
_KEYS = _BODY_KEYS | {"constants", "format", "parameters", "smaller", "version"}


def decode(data: bytes, limits: Limits) -> GraphText:
    """Parse and check the bytes of a ``model.json``. Raises ``GraphFault``."""
    if len(data) > limits.file_bytes:
        raise GraphFault(f"it has {len(data)} bytes and {limits.file_bytes} are allowed")
    raw = _object(_load(data), "the file", _KEYS)
    if raw["format"] != FORMAT or _integer(raw["version"], 0, _INT_MAX, "version") != VERSION:
        raise GraphFault(f"it is not of the format {FORMAT} version {VERSION}")
    parameters = {
        _name(name, _PARAMETER_NAME, "a parameter"): TensorSpec("float32", _shape(shape, f"parameter {name}", limits))
        for name, shape in _table(raw["parameters"], "parameters", limits.parameters).items()
    }
    constants = _specs(raw["constants"], "constants", _CONSTANT_NAME, limits.constants, limits)
    shared = dict(sorted(parameters.items())), constants
    whole = _body(raw, *shared, limits)
    parts = (
        _body(_object(item, f"smaller batch {position}", _BODY_KEYS), *shared, limits)
        for position, item in enumerate(_array(raw["smaller"], "the list of smaller batches", limits.smaller))
    )
    graph = replace(whole, smaller=tuple(parts))
    for part in graph.all_sizes:
        _check_names(part)
        _check_sizes(part, limits)
    _check_smaller(graph, limits)
    if encode(graph) != data:
        raise GraphFault("it is not in canonical form")
    return graph


def _body(
    raw: Mapping[str, Any], parameters: Mapping[str, TensorSpec], constants: Mapping[str, TensorSpec], limits: Limits
) -> GraphText:
    return GraphText(
        batch_size=_integer(raw["batch_size"], 1, 1 << 20, "batch_size"),
        inputs=_specs(raw["inputs"], "inputs", _COLUMN_NAME, limits.inputs, limits),
        parameters=parameters,
        constants=constants,
        nodes=tuple(
            _node(item, f"node {position}", limits)
            for position, item in enumerate(_array(raw["nodes"], "nodes", limits.nodes))
        ),
        loss=_name(raw["loss"], _OUTPUT_NAME, "the loss"),
    )


def _check_smaller(graph: GraphText, limits: Limits) -> None:
    """Each smaller batch is a part of the one before it and has the same columns."""
    if sum(len(part.nodes) for part in graph.all_sizes) > limits.nodes:
        raise GraphFault(f"it has more than {limits.nodes} nodes over all batch sizes")
    columns = {name: (spec.dtype, spec.shape[1:]) for name, spec in graph.inputs.items()}
    for larger, part in pairwise(graph.all_sizes):
        if part.batch_size >= larger.batch_size or larger.batch_size % part.batch_size:
            raise GraphFault(f"batches of {part.batch_size} are no smaller parts of batches of {larger.batch_size}")
        if {name: (spec.dtype, spec.shape[1:]) for name, spec in part.inputs.items()} != columns:
            raise GraphFault(f"batches of {part.batch_size} have other columns than batches of {graph.batch_size}")


def _check_names(graph: GraphText) -> None:
    """Every name is defined once, before its use, and the loss is a float32 scalar."""
    defined: dict[str, TensorSpec] = {}
    tables: dict[str, Mapping[str, TensorSpec]] = {
        "input": graph.inputs,
        "parameter": graph.parameters,
        "constant": graph.constants,
        "node": defined,
    }
    for position, node in enumerate(graph.nodes):
        for argument in node.arguments:
            for item in argument.value if argument.tag == "tensors" else (argument,):
                if item.tag in tables and item.value not in tables[item.tag]:
                    raise GraphFault(f"node {position} uses the {item.tag} {clipped(item.value)}, which is not defined")
        for name, spec in node.outputs:
            if name in defined:
                raise GraphFault(f"node {position} defines {clipped(name)} a second time")
            defined[name] = spec
    if defined.get(graph.loss) != TensorSpec("float32", ()):
        raise GraphFault(f"the loss {clipped(graph.loss)} is not a float32 scalar that a node gives")


def _check_sizes(graph: GraphText, limits: Limits) -> None:
    if not graph.parameters or not graph.inputs:
        raise GraphFault("it has no parameters or no inputs")
    for name, spec in graph.inputs.items():
        if not spec.shape or spec.shape[0] != graph.batch_size:
            raise GraphFault(f"input {name} does not have the batch size {graph.batch_size} as its first dimension")
    weights = sum(spec.elements for table in (graph.parameters, graph.constants) for spec in table.values())
    if weights > limits.parameter_elements:
        raise GraphFault(f"its weights have {weights} elements and {limits.parameter_elements} are allowed")
    if activation_elements(graph) > limits.activation_elements:
        raise GraphFault(
            f"its activations have {activation_elements(graph)} elements and {limits.activation_elements} are allowed"
        )


def _load(data: bytes) -> Any:
    try:
        from_json(data)  # has a limit on nesting of its own; that of `json` may be too high for the stack
        return json.loads(
            data.decode("utf-8"),
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_bounded_int,
            object_pairs_hook=_unique_keys,
        )
    except GraphFault:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise GraphFault("it is not JSON, or nested too deeply") from error


def _refuse_number(text: str) -> Any:
    raise GraphFault(f"it holds the number {clipped(text)[:40]}; only integers are allowed")


def _bounded_int(text: str) -> int:
    if len(text) > 20:
        raise GraphFault("it holds an integer of more than 64 bits")
    return int(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise GraphFault("it holds an object with the same key twice")
    return table


def _object(value: Any, where: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise GraphFault(f"{where} is not an object with the keys {', '.join(sorted(keys))}")
    return value


def _table(value: Any, where: str, count_max: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > count_max:
        raise GraphFault(f"{where} is not an object of at most {count_max} entries")
    return value


def _array(value: Any, where: str, count_max: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > count_max:
        raise GraphFault(f"{where} is not a list of at most {count_max} items")
    return value


def _integer(value: Any, low: int, high: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise GraphFault(f"{where} is not an integer from {low} to {high}")
    return value


def _name(value: Any, pattern: re.Pattern[str], where: str) -> str:
    if not isinstance(value, str) or len(value) > _NAME_CHARACTERS_MAX or not pattern.fullmatch(value):
        shown = f" {clipped(value)!r}" if isinstance(value, str) else ""
        raise GraphFault(f"{where} has a name{shown} that is not allowed")
    return value


def _dtype(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in DTYPES:
        raise GraphFault(f"{where} has a data type other than {', '.join(DTYPES)}")
    return value


def _shape(value: Any, where: str, limits: Limits) -> tuple[int, ...]:
    sizes = _array(value, f"the shape of {clipped(where)}", limits.rank)
    shape = tuple(_integer(size, 1, limits.tensor_elements, f"a size of {clipped(where)}") for size in sizes)
    if math.prod(shape) > limits.tensor_elements:
        raise GraphFault(f"{clipped(where)} has more than {limits.tensor_elements} elements")
    return shape


def _specs(value: Any, where: str, pattern: re.Pattern[str], count_max: int, limits: Limits) -> dict[str, TensorSpec]:
    specs = {}
    for name, item in sorted(_table(value, where, count_max).items()):
        _name(name, pattern, f"one of the {where}")
        raw = _object(item, f"{where} {name}", {"dtype", "shape"})
        specs[name] = TensorSpec(
            _dtype(raw["dtype"], f"{where} {name}"), _shape(raw["shape"], f"{where} {name}", limits)
        )
    return specs


def _node(value: Any, where: str, limits: Limits) -> Node:
    raw = _object(value, where, {"arguments", "operator", "outputs"})
    operator = _name(raw["operator"], _OPERATOR_NAME, f"the operator of {where}")
    arguments = _array(raw["arguments"], f"the argument list of {where}", limits.arguments)
    outputs = []
    for item in _array(raw["outputs"], f"the output list of {where}", limits.outputs):
        output = _object(item, f"an output of {where}", {"dtype", "name", "shape"})
        name = _name(output["name"], _OUTPUT_NAME, f"an output of {where}")
        outputs.append((name, TensorSpec(_dtype(output["dtype"], name), _shape(output["shape"], name, limits))))
    if not outputs:
        raise GraphFault(f"{where} has no output")
    return Node(operator, tuple(_argument(item, where, limits) for item in arguments), tuple(outputs))


def _argument(value: Any, where: str, limits: Limits) -> Argument:
    if not isinstance(value, dict) or len(value) != 1:
        raise GraphFault(f"an argument of {where} is not an object with one key")
    ((tag, item),) = value.items()
    if tag in TENSOR_TAGS:
        return _reference(tag, item, where)
    if tag == "tensors":
        items = _array(item, f"a list of tensors in {where}", limits.list_items)
        references = []
        for entry in items:
            reference = _argument(entry, where, limits) if _is_reference(entry) else None
            if reference is None:
                raise GraphFault(f"a list of tensors in {where} holds something else")
            references.append(reference)
        return Argument(tag, tuple(references))
    if tag == "none" and item is True:
        return Argument(tag, None)
    if tag == "bool" and isinstance(item, bool):
        return Argument(tag, item)
    if tag == "int":
        return Argument(tag, _integer(item, -_INT_MAX, _INT_MAX, f"an argument of {where}"))
    if tag == "float":
        return Argument(tag, float_from_hex(item, where))
    if tag == "ints":
        items = _array(item, f"a list of integers in {where}", limits.list_items)
        return Argument(
            tag, tuple(_integer(number, -_INT_MAX, _INT_MAX, f"an argument of {where}") for number in items)
        )
    if tag == "dtype":
        return Argument(tag, _dtype(item, f"an argument of {where}"))
    if tag == "string":
        return Argument(tag, _name(item, _WORD, f"a word in {where}"))
    raise GraphFault(f"an argument of {where} has the unknown kind {clipped(tag)!r}")


def _is_reference(entry: Any) -> bool:
    return isinstance(entry, dict) and len(entry) == 1 and next(iter(entry)) in TENSOR_TAGS


def _reference(tag: str, item: Any, where: str) -> Argument:
    pattern = {
        "constant": _CONSTANT_NAME,
        "input": _COLUMN_NAME,
        "node": _OUTPUT_NAME,
        "parameter": _PARAMETER_NAME,
    }[tag]
    return Argument(tag, _name(item, pattern, f"an argument of {where}"))


def float_from_hex(text: Any, where: str) -> float:
    """The number that ``float.hex`` wrote as ``text``. NaN and other spellings raise ``GraphFault``."""
    if not isinstance(text, str) or not _HEX_FLOAT.fullmatch(text):
        raise GraphFault(f"a number in {where} is not written as float.hex does")
    try:
        number = float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise GraphFault(f"a number in {where} does not fit a float") from error
    return number
