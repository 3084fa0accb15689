"""The allow-list: harmless by its schemas, and every row runs, trains and repeats the traced function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anynode.jobs.export import export
from anynode.jobs.operators import OPERATORS

P = dict[str, Tensor]


def shapes(p: P, b: P) -> Tensor:
    a = p["a"]  # [4, 6]
    left, right = a.split(3, dim=1)
    first, second, third = torch.split(a, [1, 2, 3], dim=1)
    low, high = a.chunk(2, dim=0)
    rows = a.unbind(0)
    mixed = [
        a.view(2, 12).reshape(4, 6),
        a.t().permute(1, 0).clone(),
        a.flatten(0, 1).unflatten(0, (4, 6)),
        torch.cat([left, right], 1).transpose(0, 1).contiguous().mT,
        torch.cat([first, second, third], dim=1),
        torch.cat([low, high]),
        torch.stack(rows),
        a[:, ::2].repeat(1, 2),
        a[1].expand(4, 6),
        a.unsqueeze(0).squeeze(0),
        a.tril().detach() + a.triu(1),
        a.gather(1, b["index"].expand(4, 6)) + a.index_select(0, b["row"]),
    ]
    return sum((item.square().mean() for item in mixed), torch.zeros(()))


def new_tensors(p: P, b: P) -> Tensor:
    a = p["a"]
    total = a * torch.arange(6) + a * torch.arange(1, 7) + a * torch.arange(0, 12, 2)
    total = total + torch.full((4, 6), 0.5) + torch.zeros(6) + torch.ones(4, 1)
    total = total + torch.zeros_like(a) + torch.ones_like(a) + torch.full_like(a, 2.0)
    return total.mean() * torch.ops.aten.scalar_tensor(2.0)


def elementwise(p: P, b: P) -> Tensor:
    a, row = p["a"], p["row"]
    positive = a.abs() + 0.5
    parts = [
        a + row, a - row, a * row, a / positive, 1.0 - a, a**3, a.cos(), a.exp(), positive.log(), positive.log1p(),
        -a, positive.reciprocal(), a.relu(), positive.rsqrt(), a.sigmoid(), F.silu(a), a.sin(), positive.sqrt(),
        a.square(), a.tanh(), F.gelu(a), F.gelu(a, approximate="tanh"), F.leaky_relu(a), F.softplus(a), a.clamp(-1, 1),
        torch.maximum(a, row), torch.minimum(a, row), torch.where(a > row, a, row), torch.where(a > 0, a, 0.5),
        torch.where(a > 0, 0.5, a), a.masked_fill(a < 0, 0.0),
    ]  # fmt: skip
    flags = [a == 0, a != 0, a < 1, a <= 1, a > 1, a >= 1, a == row, a != row, a < row, a <= row, a >= row]
    masks = torch.logical_not(torch.logical_and(flags[0], torch.logical_or(flags[1], flags[2])))
    total = sum((part.mean() for part in parts), torch.zeros(()))
    return total + sum((flag * a).mean() for flag in [*flags, masks])


def reductions(p: P, b: P) -> Tensor:
    a = p["a"]
    parts = [
        a.mean(), a.mean(1), a.sum(), a.sum(0), a.amax(1), a.amin(0), a.var(1), a.var(0, correction=0), a.logsumexp(1),
        a.softmax(1), a.log_softmax(1), a.cumsum(1),
    ]  # fmt: skip
    return sum((part.square().mean() for part in parts), torch.zeros(()))


def layers(p: P, b: P) -> Tensor:
    a, w = p["a"], p["w"]  # [4, 6], [6, 6]
    cube = a.view(2, 2, 6)
    heads = torch.stack([cube, cube * 2], 1)  # [2, 2, 2, 6]
    parts = [
        a @ w, torch.mm(a, w), torch.bmm(cube, cube.transpose(1, 2)), torch.addmm(p["row"], a, w),
        F.linear(a, w, p["row"]), F.embedding(b["row"], a), F.layer_norm(a, (6,), p["row"], p["row"]),
        F.rms_norm(a, (6,), p["row"]),
        F.group_norm(a.view(2, 4, 3), 2, p["four"], p["four"]),
        F.scaled_dot_product_attention(heads, heads, heads, is_causal=True),
        F.scaled_dot_product_attention(heads, heads, heads, attn_mask=torch.ones(2, 2).tril() > 0),
    ]  # fmt: skip
    return sum((part.square().mean() for part in parts), torch.zeros(()))


def convolutions(p: P, b: P) -> Tensor:
    image, signal = p["image"], p["image"].flatten(2)  # [4, 2, 6, 6], [4, 2, 36]
    parts = [
        F.conv2d(image, p["kernel"], padding=1, stride=2), F.conv2d(image, p["kernel"], p["two"], padding="same"),
        F.conv1d(signal, p["kernel1"], padding=1), F.conv1d(signal, p["kernel1"], p["two"], padding="valid"),
        F.max_pool2d(image, 2), F.avg_pool2d(image, 3, stride=1, padding=1), F.adaptive_avg_pool2d(image, 2),
    ]  # fmt: skip
    return sum((part.square().mean() for part in parts), torch.zeros(()))


def losses(p: P, b: P) -> Tensor:
    a, target = p["a"], b["target"]
    return (
        F.cross_entropy(a, b["row"], label_smoothing=0.1)
        + F.nll_loss(a.log_softmax(1), b["row"])
        + F.mse_loss(a, target)
        + F.l1_loss(a, target)
        + F.binary_cross_entropy_with_logits(a, target.sigmoid())
        + a.to(torch.float32).mean()
    )


GROUPS: list[Callable[[P, P], Tensor]] = [shapes, new_tensors, elementwise, reductions, layers, convolutions, losses]


def tensors() -> tuple[P, P]:
    generator = torch.Generator().manual_seed(7)
    sizes = {
        "a": (4, 6), "w": (6, 6), "row": (6,), "four": (4,), "image": (4, 2, 6, 6), "kernel": (2, 2, 3, 3),
        "kernel1": (2, 2, 3), "two": (2,),
    }  # fmt: skip
    params = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    batch = {
        "index": torch.tensor([[0], [5], [2], [3]]),
        "row": torch.tensor([0, 3, 1, 2]),
        "target": torch.randn(4, 6, generator=generator),
    }
    return params, batch


def exported_operators(group: Callable[[P, P], Tensor], folder: Path) -> set[str]:
    params, batch = tensors()

    def loss(p: P, b: P) -> Tensor:
        return group(p, b) + sum(tensor.sum() for tensor in p.values()) * 1e-3

    export(loss, params, batch, folder)  # compares loss and gradients of graph and function itself
    return {node["operator"] for node in json.loads((folder / "model.json").read_bytes())["nodes"]}


def test_every_row_of_the_allow_list_is_exported_run_and_differentiated(tmp_path: Path) -> None:
    covered = set().union(*(exported_operators(group, tmp_path / group.__name__) for group in GROUPS))
    assert OPERATORS.keys() - covered == set()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_row_is_free_of_side_effects_and_randomness(name: str) -> None:
    overload = OPERATORS[name].overload
    assert str(overload) == name
    assert not overload._schema.is_mutable
    random = torch.Tag.nondeterministic_seeded in overload.tags
    assert not random or name == "aten.scaled_dot_product_attention.default"  # its dropout is fixed at 0
    assert torch.Tag.dynamic_output_shape not in overload.tags
    assert torch.Tag.data_dependent_output not in overload.tags
    for argument in overload._schema.arguments:
        assert argument.alias_info is None or not argument.alias_info.is_write


def test_the_kinds_of_every_row_fit_the_types_of_its_schema() -> None:
    """A kind may be narrower than the schema, never of another type."""
    tags_of = {
        "Tensor": {"constant", "input", "node", "parameter"},
        "List[Tensor]": {"tensors"},
        "int": {"int"},
        "SymInt": {"int"},
        "float": {"float"},
        "bool": {"bool"},
        "str": {"string"},
        "List[int]": {"ints"},
        "List[SymInt]": {"ints"},
        "number": {"bool", "int", "float"},
        "ScalarType": {"dtype"},
    }
    for row in OPERATORS.values():
        schema = {argument.name: argument for argument in row.overload._schema.arguments}
        for name, kind in zip(row.names, row.kinds, strict=True):
            written = str(schema[name].real_type)
            optional = written.startswith("Optional[")
            written = written.removeprefix("Optional[").removesuffix("]") if optional else written
            allowed = tags_of[written] | ({"none"} if optional else set())
            if written == "Tensor":
                allowed |= {"bool", "int", "float"}  # torch wraps a number into a tensor of no dimension
            assert kind.tags <= allowed, (row.name, name, written)
