"""The reader gives what the exported function gives, bit for bit: loss, gradients, and again on every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anynode.jobs.export import Exportable, export
from anynode.jobs.graph import Graph
from anynode.jobs.templates import convnet, gpt, mlp
from anynode.jobs.weights import load_model
from anynode_contracts.errors import RefusedError

TEMPLATES = [gpt, convnet, mlp]


def with_gradients(
    loss: Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor],
    params: dict[str, Tensor],
    batch: dict[str, Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    value = loss(leaves, batch)
    return value.detach(), torch.autograd.grad(value, [leaves[name] for name in sorted(leaves)])


def random_batch(model: Exportable, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for name, tensor in model.example_batch.items():
        if tensor.is_floating_point():
            batch[name] = torch.randn(tensor.shape, generator=generator)
        else:
            high = 3 if name == "label" else 256
            batch[name] = torch.randint(0, high, tensor.shape, generator=generator).to(tensor.dtype)
    return batch


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_loss_and_gradients_have_the_bits_of_the_module(template: ModuleType, tmp_path: Path) -> None:
    model: Exportable = template.tiny()
    export(*model, tmp_path)
    read = load_model(tmp_path)
    assert read.parameters.keys() == model.params.keys()
    for seed in range(3):
        batch = random_batch(model, seed)
        loss, gradients = with_gradients(read.graph.loss, read.parameters, batch)
        wanted_loss, wanted_gradients = with_gradients(model.loss, model.params, batch)
        again, gradients_again = with_gradients(read.graph.loss, read.parameters, batch)
        assert torch.equal(loss, wanted_loss), seed
        assert torch.equal(loss, again), seed
        for wanted, given, repeated in zip(wanted_gradients, gradients, gradients_again, strict=True):
            assert torch.equal(wanted, given), seed
            assert torch.equal(given, repeated), seed


def test_the_default_gpt_has_about_a_million_parameters() -> None:
    model = gpt.build()
    assert 1_000_000 <= sum(tensor.numel() for tensor in model.params.values()) <= 1_100_000
    assert model.example_batch["tokens"].dtype == torch.uint8
    assert model.example_batch["tokens"].shape == (8, 65)


def test_a_template_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = gpt.tiny(), gpt.tiny()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first.params[name], second.params[name]) for name in first.params)


def test_a_tiny_gpt_learns_a_repeated_text(tmp_path: Path) -> None:
    model = gpt.tiny()
    graph = export(*model, tmp_path)
    text = torch.tensor(list(b"the same words again and again. " * 4), dtype=torch.uint8)
    batch = {"tokens": torch.stack([text[start : start + 17] for start in (0, 8, 16, 24)])}
    params, losses = dict(model.params), []
    for _ in range(30):
        loss, gradients = with_gradients(graph.loss, params, batch)
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        params = {name: params[name] - 0.3 * step / norm for name, step in zip(sorted(params), gradients, strict=True)}
        losses.append(float(loss))
    assert losses[0] > 5.0
    assert losses[-1] < 2.0


def test_the_graph_describes_itself(tmp_path: Path) -> None:
    graph = export(*mlp.tiny(), tmp_path)
    assert graph.batch_size == 4
    assert graph.inputs == {"features": (torch.float32, (4,)), "label": (torch.int64, ())}
    assert list(graph.parameters) == sorted(graph.parameters)
    assert graph.parameters["2.weight"] == ((3, 8), torch.float32)
    assert graph.parameter_count == 4 * 8 + 8 + 8 * 3 + 3
    assert len(graph.identity) == 64
    assert Graph.parse((tmp_path / "model.json").read_bytes()).identity == graph.identity


def test_constants_travel_with_the_weights(tmp_path: Path) -> None:
    scale = torch.linspace(0.5, 1.5, 4)

    def loss(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(batch["x"] @ params["w"] * scale, batch["x"])

    params, batch = {"w": torch.eye(4) * 0.5}, {"x": torch.ones(2, 4)}
    export(loss, params, batch, tmp_path)
    read = load_model(tmp_path)
    assert list(read.graph.constants) == ["constant.0"]
    assert list(read.parameters) == ["w"]
    assert torch.equal(read.graph.loss(params, batch), loss(params, batch))
    bare = Graph.parse((tmp_path / "model.json").read_bytes())
    with pytest.raises(RefusedError, match="load the model"):
        bare.loss(params, batch)


def test_a_batch_or_parameters_of_another_form_are_refused(tmp_path: Path) -> None:
    model = mlp.tiny()
    graph = export(*model, tmp_path)
    cases = [
        (model.params, {"features": torch.zeros(4, 4)}),
        (model.params, {**model.example_batch, "extra": torch.zeros(4)}),
        (model.params, {**model.example_batch, "features": torch.zeros(8, 4)}),
        (model.params, {**model.example_batch, "features": torch.zeros(4, 4, dtype=torch.float64)}),
        ({**model.params, "0.bias": torch.zeros(9)}, model.example_batch),
        ({name: model.params[name] for name in list(model.params)[1:]}, model.example_batch),
    ]
    for params, batch in cases:
        with pytest.raises(RefusedError, match="exported together"):
            graph.loss(params, batch)


def test_a_label_out_of_range_is_refused_in_words(tmp_path: Path) -> None:
    model = mlp.tiny()
    graph = export(*model, tmp_path)
    batch = {**model.example_batch, "label": torch.full((4,), 99)}
    with pytest.raises(RefusedError, match=r"cross_entropy_loss.*fits the model"):
        graph.loss(model.params, batch)
