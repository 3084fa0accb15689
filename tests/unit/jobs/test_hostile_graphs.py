"""A hostile ``model.json`` ends in one sentence and nothing else: no import, no allocation, no other error."""

from __future__ import annotations

import copy
import json
import resource
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anynode.jobs.export import export
from anynode.jobs.graph import Graph
from anynode.jobs.graph_format import Limits
from anynode.jobs.operators import OPERATORS
from anynode.jobs.templates import convnet, gpt, mlp
from anynode_contracts.errors import UserError

SMALL = Limits(tensor_elements=1 << 16, activation_elements=1 << 20)


@cache
def exported(template: str) -> bytes:
    with TemporaryDirectory() as folder:
        export(*{"mlp": mlp, "convnet": convnet, "gpt": gpt}[template].tiny(), Path(folder))
        return (Path(folder) / "model.json").read_bytes()


def good(template: str = "mlp") -> dict[str, Any]:
    value: dict[str, Any] = json.loads(exported(template))
    return value


def dumped(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def sentence(data: bytes) -> str:
    """The refusal of ``data``: a single printable line of bounded length."""
    with pytest.raises(UserError) as caught:
        Graph.parse(data)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    assert "anynode export" in text
    return text


def test_the_file_that_is_changed_below_is_a_good_one() -> None:
    for template in ("mlp", "convnet", "gpt"):
        assert dumped(good(template)) == exported(template)
        assert Graph.parse(exported(template)).parameter_count > 0


# --- text -----------------------------------------------------------------------------------------------------------

TEXTS = {
    "empty": b"",
    "not JSON": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94",
    "not UTF-8": b'{"format":"\xff"}',
    "a list": b"[]",
    "null": b"null",
    "deep lists": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 500_000,
    "too many bytes": b" " * (5 << 20),
    "NaN": b'{"batch_size":NaN}',
    "infinity": b'{"batch_size":-Infinity}',
    "a float": b'{"batch_size":4.0}',
    "a huge integer": b'{"batch_size":' + b"9" * 100_000 + b"}",
    "lone surrogate": b'{"format":"\\ud800"}',
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_is_no_graph_is_refused(text: str) -> None:
    sentence(TEXTS[text])


def test_a_key_given_twice_is_refused() -> None:
    data = exported("mlp").replace(b'"version":2', b'"version":2,"version":2')
    assert "same key twice" in sentence(data)


def test_another_spelling_of_the_same_graph_is_refused() -> None:
    assert "canonical" in sentence(json.dumps(good()).encode())
    assert "canonical" in sentence(exported("mlp") + b"\n")


# --- structure ------------------------------------------------------------------------------------------------------


def _change(path: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(graph: dict[str, Any]) -> None:
        place: Any = graph
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def drop(graph: dict[str, Any]) -> None:
        place: Any = graph
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return drop


def _no_part(graph: dict[str, Any]) -> None:
    part = graph["smaller"][0]
    part["batch_size"] = 3
    for column in part["inputs"].values():
        column["shape"][0] = 3


def _out_of_order(graph: dict[str, Any]) -> None:
    graph["smaller"].reverse()


def _other_columns(graph: dict[str, Any]) -> None:
    del graph["smaller"][0]["inputs"]["label"]
    graph["smaller"][0]["nodes"] = graph["smaller"][0]["nodes"][:1]
    graph["smaller"][0]["loss"] = graph["smaller"][0]["nodes"][0]["outputs"][0]["name"]
    graph["smaller"][0]["nodes"][0]["outputs"][0]["shape"] = []


NODE = ("nodes", 0)
WEIGHT = ("nodes", 0, "arguments", 1)
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "unknown operator": (_change((*NODE, "operator"), "aten.system.default"), "not an allowed operator"),
    "operator of another library": (_change((*NODE, "operator"), "os.system.default"), "name"),
    "operator with a dunder": (_change((*NODE, "operator"), "aten.__class__.default"), "not an allowed operator"),
    "operator with code": (_change((*NODE, "operator"), "__import__('os').system('id')"), "name"),
    "operator that writes a file": (_change((*NODE, "operator"), "aten.from_file.default"), "not an allowed"),
    "operator in place": (_change((*NODE, "operator"), "aten.add_.Tensor"), "not an allowed operator"),
    "operator that is random": (_change((*NODE, "operator"), "aten.rand.default"), "not an allowed operator"),
    "operator of views by stride": (_change((*NODE, "operator"), "aten.as_strided.default"), "not an allowed"),
    "operator is a number": (_change((*NODE, "operator"), 7), "name"),
    "shape is text": (_change((*NODE, "outputs", 0, "shape"), "[4, 8]"), "not a list"),
    "shape holds text": (_change((*NODE, "outputs", 0, "shape", 0), "s0"), "not an integer"),
    "shape holds an expression": (_change((*NODE, "outputs", 0, "shape", 0), "2**99999"), "not an integer"),
    "shape holds true": (_change((*NODE, "outputs", 0, "shape", 0), True), "not an integer"),
    "shape holds zero": (_change((*NODE, "outputs", 0, "shape", 0), 0), "not an integer"),
    "shape holds a negative size": (_change((*NODE, "outputs", 0, "shape", 0), -4), "not an integer"),
    "shape holds a huge size": (_change((*NODE, "outputs", 0, "shape", 0), 2**62), "not an integer"),
    "shape of huge volume": (_change((*NODE, "outputs", 0, "shape"), [2**20, 2**20]), "elements"),
    "shape of many dimensions": (_change((*NODE, "outputs", 0, "shape"), [1] * 9), "list of at most 8"),
    "shape is not what comes out": (_change((*NODE, "outputs", 0, "shape"), [4, 9]), "shape and data type"),
    "data type unknown": (_change((*NODE, "outputs", 0, "dtype"), "complex128"), "data type"),
    "data type is not what comes out": (_change((*NODE, "outputs", 0, "dtype"), "int64"), "shape and data type"),
    "data type of code": (_change((*NODE, "outputs", 0, "dtype"), "__class__"), "data type"),
    "no outputs": (_change((*NODE, "outputs"), []), "no output"),
    "too many outputs": (
        lambda graph: graph["nodes"][0]["outputs"].append({"name": "more", "dtype": "float32", "shape": [1]}),
        "names 2 outputs",
    ),
    "output twice": (_change(("nodes", 1, "outputs", 0, "name"), "linear"), "a second time"),
    "output without a name": (_drop(*NODE, "outputs", 0, "name"), "keys dtype, name, shape"),
    "node without arguments": (_drop(*NODE, "arguments"), "keys arguments, operator, outputs"),
    "node with another key": (_change((*NODE, "device"), "cuda:0"), "keys arguments, operator, outputs"),
    "node is text": (_change(NODE, "linear"), "keys arguments, operator, outputs"),
    "missing argument": (_drop(*WEIGHT), "arguments and it takes"),
    "argument of two keys": (_change(WEIGHT, {"node": "linear", "int": 1}), "one key"),
    "argument of unknown kind": (_change(WEIGHT, {"code": "print(1)"}), "unknown kind"),
    "argument of a device": (_change(WEIGHT, {"device": "cuda"}), "unknown kind"),
    "argument of the wrong kind": (_change(WEIGHT, {"int": 3}), "not allowed there"),
    "argument is a bool as int": (_change(WEIGHT, {"int": True}), "not an integer"),
    "argument is a huge int": (_change(WEIGHT, {"int": 2**63}), "not an integer"),
    "argument is a float number": (_change(WEIGHT, {"float": 1.5}), "only integers"),
    "argument is NaN": (_change(WEIGHT, {"float": "nan"}), "float.hex"),
    "argument is a float beyond range": (_change(WEIGHT, {"float": "0x1.0000000000000p+9999"}), "fit a float"),
    "argument is a float in words": (_change(WEIGHT, {"float": "1.5"}), "float.hex"),
    "nested lists of tensors": (
        _change(WEIGHT, {"tensors": [{"tensors": [{"tensors": []}]}]}),
        "holds something else",
    ),
    "reference to nothing": (_change(WEIGHT, {"parameter": "nothing"}), "not defined"),
    "reference to itself": (_change(WEIGHT, {"node": "linear"}), "not defined"),
    "reference to a later node": (_change(WEIGHT, {"node": "linear_1"}), "not defined"),
    "reference of a path": (_change(WEIGHT, {"parameter": "../../etc/passwd"}), "name"),
    "loss that is no node": (_change(("loss",), "nothing"), "not a float32 scalar"),
    "loss that is a tensor": (_change(("loss",), "linear"), "not a float32 scalar"),
    "no nodes": (_change(("nodes",), []), "not a float32 scalar"),
    "no parameters": (_change(("parameters",), {}), "not defined"),
    "no inputs": (_change(("inputs",), {}), "not defined"),
    "an unused parameter": (_change(("parameters", "unused"), [4]), "does not depend on the parameter unused"),
    "parameter with a path": (_change(("parameters", "../../x"), [4]), "name"),
    "parameter with a slash": (_change(("parameters", "/etc/passwd"), [4]), "name"),
    "parameter with a null byte": (_change(("parameters", "a\0b"), [4]), "name"),
    "parameter with an escape code": (_change(("parameters", "\x1b[2J"), [4]), "name"),
    "parameter with a long name": (_change(("parameters", "a" * 200), [4]), "name"),
    "parameter named as a constant": (_change(("parameters", "constant.0"), [4]), "name"),
    "parameter of huge volume": (_change(("parameters", "big"), [2**29]), "does not depend on the parameter big"),
    "column with a path": (_change(("inputs", "..\\x"), {"dtype": "uint8", "shape": [4]}), "name"),
    "column of another batch": (_change(("inputs", "x"), {"dtype": "uint8", "shape": [5]}), "batch size"),
    "column without a batch": (_change(("inputs", "x"), {"dtype": "uint8", "shape": []}), "batch size"),
    "batch size is a bool": (_change(("batch_size",), True), "not an integer"),
    "batch size is zero": (_change(("batch_size",), 0), "not an integer"),
    "constant with a path": (_change(("constants", "../c"), {"dtype": "uint8", "shape": [4]}), "name"),
    "another format": (_change(("format",), "pickle"), "not of the format"),
    "another version": (_change(("version",), 1), "not of the format"),
    "version is a bool": (_change(("version",), True), "not an integer"),
    "a smaller batch that is larger": (_change(("smaller", 0, "batch_size"), 8), "first dimension"),
    "a smaller batch that is no part": (_no_part, "no smaller parts"),
    "smaller batches out of order": (_out_of_order, "no smaller parts"),
    "a smaller batch of other columns": (_other_columns, "other columns"),
    "an unknown key in a smaller batch": (_change(("smaller", 0, "parameters"), {}), "keys batch_size"),
    "too many smaller batches": (_change(("smaller",), [{}] * 17), "at most 16"),
    "a bad operator in a smaller batch": (
        _change(("smaller", 0, "nodes", 0, "operator"), "aten.rand.default"),
        "not an allowed operator",
    ),
    "an unknown key": (_change(("hooks",), ["x"]), "keys batch_size"),
    "a missing key": (_drop("inputs"), "keys batch_size"),
    "inputs are a list": (_change(("inputs",), []), "not an object"),
    "nodes are an object": (_change(("nodes",), {}), "not a list"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_graph_is_refused(case: str) -> None:
    change, reason = CHANGES[case]
    graph = good()
    change(graph)
    assert reason in sentence(dumped(graph))


def test_too_many_parts_are_refused() -> None:
    many = {
        "nodes": [good()["nodes"][0]] * 20_000,
        "parameters": {f"p{n}": [1] for n in range(9_000)},
        "inputs": {f"c{n}": {"dtype": "uint8", "shape": [4]} for n in range(65)},
        "constants": {f"constant.{n}": {"dtype": "uint8", "shape": [4]} for n in range(1_025)},
    }
    for key, value in many.items():
        assert "at most" in sentence(dumped({**good(), key: value})) or key == "nodes"


def test_weights_beyond_the_limit_in_sum_are_refused() -> None:
    graph = good()
    graph["parameters"] |= {f"big{n}": [2**29] for n in range(5)}
    assert "weights have" in sentence(dumped(graph))


def test_activations_beyond_the_limit_in_sum_are_refused() -> None:
    graph = good()
    ones = {
        "operator": "aten.ones.default",
        "arguments": [{"ints": [2**29]}, {"none": True}],
    }
    graph["nodes"][:0] = [
        {**ones, "outputs": [{"name": f"big{n}", "dtype": "float32", "shape": [2**29]}]} for n in range(9)
    ]
    assert "activations have" in sentence(dumped(graph))


# --- memory and time ------------------------------------------------------------------------------------------------


def with_first(operator: str, arguments: list[Any], shape: list[int] | None = None, outputs: int = 1) -> bytes:
    """The MLP with one more call in front, on its parameter ``0.weight`` of shape [8, 4]."""
    graph = good()
    named = [{"name": f"bomb{n}", "dtype": "float32", "shape": shape or [1]} for n in range(outputs)]
    graph["nodes"].insert(0, {"operator": operator, "arguments": arguments, "outputs": named})
    return dumped(graph)


WEIGHTS = {"parameter": "0.weight"}
NONE = {"none": True}
BIG = 2**29
BOMBS = {
    "full": with_first("aten.full.default", [{"ints": [BIG, BIG]}, {"int": 1}, NONE]),
    "full with a modest claim": with_first("aten.full.default", [{"ints": [BIG]}, {"int": 1}, NONE], [4]),
    "expand": with_first("aten.expand.default", [WEIGHTS, {"ints": [BIG, 8, 4]}]),
    "repeat": with_first("aten.repeat.default", [WEIGHTS, {"ints": [BIG, 1]}]),
    "repeat of repeats": with_first("aten.repeat.default", [WEIGHTS, {"ints": [2**14, 2**15]}]),
    "arange": with_first("aten.arange.default", [{"int": 2**53}, NONE]),
    "arange of tiny steps": with_first(
        "aten.arange.start_step", [{"int": 0}, {"int": 1}, {"float": (1e-300).hex()}, NONE]
    ),
    "a million pieces": with_first("aten.split.Tensor", [WEIGHTS, {"int": 1}, {"int": 0}], [1, 4], outputs=1_024),
    "more chunks than rows": with_first("aten.chunk.default", [WEIGHTS, {"int": 1_024}, {"int": 0}], [1, 4], outputs=9),
    "view to more": with_first("aten.view.default", [WEIGHTS, {"ints": [BIG, -1]}]),
    "stack of one many times": with_first("aten.stack.default", [{"tensors": [WEIGHTS] * 2_000}, {"int": 0}]),
    "huge kernel": with_first(
        "aten.max_pool2d.default",
        [WEIGHTS, {"ints": [BIG]}, {"ints": [1]}, {"ints": [0]}, {"ints": [1]}, {"bool": False}],
    ),
    "huge padding": with_first(
        "aten.conv1d.default",
        [WEIGHTS, WEIGHTS, NONE, {"ints": [1]}, {"ints": [2**40]}, {"ints": [1]}, {"int": 1}],
    ),
    "no groups": with_first("aten.group_norm.default", [WEIGHTS, {"int": 0}, NONE, NONE, {"float": (0.0).hex()}]),
    "split by nothing": with_first("aten.split.Tensor", [WEIGHTS, {"int": 0}, {"int": 0}]),
    "dimension out of range": with_first("aten.split.Tensor", [WEIGHTS, {"int": 4}, {"int": 5}]),
    "sparse gradient": with_first(
        "aten.embedding.default", [WEIGHTS, {"input": "label"}, {"int": -1}, {"bool": False}, {"bool": True}]
    ),
    "random dropout": with_first(
        "aten.scaled_dot_product_attention.default",
        [WEIGHTS, WEIGHTS, WEIGHTS, NONE, {"float": (0.5).hex()}, {"bool": False}, NONE, {"bool": False}],
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_memory_bomb_is_refused_before_it_allocates(bomb: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    sentence(BOMBS[bomb])
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 256 << 10
    assert time.process_time() - start < 20


def test_what_an_operator_would_hold_inside_is_bounded() -> None:
    """A scalar loss of two broadcast vectors, and attention over a long row: small outputs, huge insides."""
    graph = good()
    graph["parameters"]["long"] = [2**20, 1]
    long = {"parameter": "long"}
    calls = {
        "aten.mse_loss.default": [long, {"node": "flat"}, {"int": 1}],
        "aten.scaled_dot_product_attention.default": [
            {"node": "cube"}, {"node": "cube"}, {"node": "cube"}, NONE, {"float": (0.0).hex()}, {"bool": False}, NONE,
            {"bool": False},
        ],
        "aten.matmul.default": [{"node": "column"}, {"node": "wide"}],
    }  # fmt: skip
    views = {"flat": [1, 2**20], "cube": [1, 2**20, 1], "column": [2**20, 1, 1], "wide": [2**10, 1, 2**10, 1]}
    front = [
        {
            "operator": "aten.view.default",
            "arguments": [long, {"ints": shape}],
            "outputs": [{"name": name, "dtype": "float32", "shape": shape}],
        }
        for name, shape in views.items()
    ]
    for operator, arguments in calls.items():
        bomb = {
            "operator": operator,
            "arguments": arguments,
            "outputs": [{"name": "bomb", "dtype": "float32", "shape": []}],
        }
        text = sentence(dumped({**graph, "nodes": [*front, bomb, *good()["nodes"]]}))
        assert "would hold" in text or "same shape" in text


# --- anything at all ------------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2, 8, 2**29, -(2**29), 2**31, 2**63 - 1, 2**70, True, None, 1.5, "", "x", "../x", "inf"]
    ),
    st.sampled_from([[], {}, [[]], {"none": True}, {"bool": True}, {"dtype": "int64"}, {"string": "same"}]),
    st.integers(-9, 9).map(lambda number: {"int": number}),
    st.lists(st.integers(-2, 2**20), max_size=5).map(lambda numbers: {"ints": numbers}),
    st.floats().map(lambda number: {"float": number.hex()}),
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from(["linear", "relu", "view", "add"]).map(lambda name: {"node": name}),
    st.text(max_size=8),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


@cache
def all_places(template: str) -> list[tuple[Any, ...]]:
    return places(good(template))


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(template=st.sampled_from(["mlp", "convnet", "gpt"]), data=st.data())
def test_any_mutation_is_refused_in_a_sentence_or_runs(template: str, data: st.DataObject) -> None:
    graph = copy.deepcopy(good(template))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(all_places(template)))
        place: Any = graph
        try:
            for key in path[:-1]:
                place = place[key]
            if data.draw(st.booleans()):
                place[path[-1]] = data.draw(JUNK)
            else:
                del place[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation removed this place
    try:
        parsed = Graph.parse(dumped(graph), SMALL)
        params = {name: torch.zeros(spec.shape) for name, spec in parsed.parameters.items()}
        size = parsed.batch_size
        columns = {
            name: torch.zeros((size, *column.shape), dtype=column.dtype) for name, column in parsed.inputs.items()
        }
        assert parsed.loss(params, columns).shape == ()
    except UserError as error:
        assert str(error).isprintable()


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 900), cut=st.integers(0, 40))
def test_any_damage_to_the_bytes_is_refused_in_a_sentence(data: bytes, at: int, cut: int) -> None:
    text = exported("mlp")
    changed = text[:at] + data + text[at + cut :]
    try:
        Graph.parse(changed, SMALL)
    except UserError as error:
        assert str(error).isprintable()
