"""Export: what a job cannot hold is refused in words, and files are whole or absent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anynode.jobs.export import Exportable, export
from anynode.jobs.export_command import export as export_command
from anynode.jobs.graph import Graph
from anynode.jobs.templates import mlp
from anynode.jobs.templates.modules import from_module
from anynode.jobs.weights import load_model, read_weights, write_tensors
from anynode_contracts.errors import UserError

P = dict[str, Tensor]


def image_model(*layers: nn.Module) -> Exportable:
    return from_module(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers, nn.Flatten(), nn.Linear(4 * 4 * 4, 3)),
        lambda model, batch: F.cross_entropy(model(batch["x"]), batch["y"]),
        {"x": torch.ones(2, 1, 4, 4), "y": torch.zeros(2, dtype=torch.int64)},
        seed=0,
    )


def hidden_state() -> Callable[[P, P], Tensor]:
    seen: list[int] = []

    def loss(params: P, batch: P) -> Tensor:
        seen.append(1)
        return (params["w"] * batch["x"]).sum() * len(seen)

    return loss


outside = torch.ones(4, requires_grad=True)
REFUSED: dict[str, tuple[Callable[[P, P], Tensor], str]] = {
    "random": (lambda p, b: (p["w"] * torch.rand(4)).sum(), "aten.rand"),
    "dropout": (lambda p, b: F.dropout(p["w"] * b["x"], 0.5, True).sum(), "set it to 0"),
    "branch on data": (lambda p, b: p["w"].sum() if b["x"].sum() > 0 else p["w"].mean(), "cannot be traced"),
    "shape of data": (lambda p, b: p["w"].sum() * b["x"].nonzero().shape[0], "fixed shapes|not allowed"),
    "item": (lambda p, b: p["w"].sum() * b["x"][0, 0].item(), "cannot be traced|not allowed|cannot hold"),
    "in place": (lambda p, b: (p["w"] * 1.0).add_(1.0).sum(), "aten.add_"),
    "double": (lambda p, b: (p["w"].double() * b["x"]).sum(), "float64"),
    "an outer parameter": (lambda p, b: (p["w"] * outside).sum(), "not among its parameters"),
    "not a scalar": (lambda p, b: p["w"] * b["x"], "not a float32 scalar"),
    "two results": (lambda p, b: (p["w"].sum(), b["x"].sum()), "scalar loss alone"),  # type: ignore[dict-item,return-value]
    "a number": (lambda p, b: 3.0, "cannot be traced|scalar loss alone"),  # type: ignore[dict-item,return-value]
    "without parameters": (lambda p, b: b["x"].sum(), "does not depend"),
    "an exception": (lambda p, b: p["nothing"].sum(), "cannot be traced"),
    "no gradient": (lambda p, b: p["w"].detach().sum(), "does not depend"),
    "hidden state": (hidden_state(), "does not repeat"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_job_cannot_hold_is_refused_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    loss, reason = REFUSED[case]
    with pytest.raises(UserError, match=reason) as caught:
        export(loss, {"w": torch.ones(4)}, {"x": torch.ones(2, 4)}, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_batch_norm_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GroupNorm"):
        export(*image_model(nn.BatchNorm2d(4)), tmp_path)


def coupled(params: P, batch: P) -> Tensor:
    """A loss that centres its batch, as batch statistics do."""
    return ((batch["x"] - batch["x"].mean(dim=0)) @ params["w"]).square().mean()


def summed(params: P, batch: P) -> Tensor:
    return (batch["x"] @ params["w"]).square().sum()


def knows_its_size(params: P, batch: P) -> Tensor:
    return (batch["x"].view(4, 3) @ params["w"]).square().mean()


def positions(params: P, batch: P) -> Tensor:
    """Its constants depend on the batch size, and one of them does not."""
    weights = torch.ones(batch["x"].shape[0]) * torch.tensor(2.0)
    return ((batch["x"] @ params["w"]) * weights).square().mean()


@pytest.mark.parametrize(
    ("loss", "sizes"), [(coupled, (4,)), (summed, (4,)), (knows_its_size, (4,)), (positions, (4, 2, 1))]
)
def test_parts_of_a_batch_are_exported_where_their_mean_is_that_of_the_batch(
    loss: Callable[[P, P], Tensor], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(4)
    params, batch = {"w": torch.ones(3)}, {"x": torch.randn(4, 3, generator=generator)}
    graph = export(loss, params, batch, tmp_path)
    assert graph.batch_sizes == sizes and graph.batch_size == 4
    model = load_model(tmp_path)
    whole = model.graph.loss(model.parameters, batch)
    for size in sizes:
        parts = [model.graph.loss(model.parameters, {"x": part}) for part in batch["x"].split(size)]
        assert torch.allclose(torch.stack(parts).mean(), whole, rtol=1e-6)
    with pytest.raises(UserError, match="where the graph wants"):
        model.graph.loss(model.parameters, {"x": batch["x"][:3]})


def test_the_command_says_which_parts_of_a_batch_a_worker_may_compute(tmp_path: Path) -> None:
    done = CliRunner().invoke(export_command, ["anynode.jobs.templates.mlp:tiny", "--out", str(tmp_path)])
    assert "a worker with little memory computes 2, 1 samples at a time" in done.output


def test_dropout_that_is_off_leaves_no_trace(tmp_path: Path) -> None:
    export(*image_model(nn.Dropout(0.0)), tmp_path)
    assert b"dropout" not in (tmp_path / "model.json").read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    model = mlp.tiny()
    model.params["0.bias"][2] = value
    with pytest.raises(UserError, match="NaN or infinity"):
        export(*model, tmp_path)
    export(*mlp.tiny(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["0.bias"][2] = value
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="NaN or infinity"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("params", "batch", "reason"),
    [
        ({}, {"x": torch.ones(2, 4)}, "no parameters"),
        ({"w": torch.ones(4)}, {}, "no batch columns|no parameters"),
        ({"w": torch.ones(4, dtype=torch.float64)}, {"x": torch.ones(2, 4)}, "another shape or type"),
        ({"w": torch.ones(4)}, {"x": torch.ones(2, 4), "y": torch.ones(3)}, "batch size"),
        ({"w": torch.ones(4)}, {"x": torch.tensor(1.0)}, "batch size"),
        ({"../w": torch.ones(4)}, {"x": torch.ones(2, 4)}, "name"),
        ({"w": torch.ones(4)}, {"X/..": torch.ones(2, 4)}, "name"),
    ],
)
def test_odd_parameters_and_batches_are_refused(params: P, batch: P, reason: str, tmp_path: Path) -> None:
    def loss(params: P, batch: P) -> Tensor:
        return sum((tensor.sum() for tensor in (*params.values(), *batch.values())), torch.zeros(()))

    with pytest.raises(UserError, match=reason):
        export(loss, params, batch, tmp_path)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def damage_pickle(path: Path) -> None:
    torch.save({"0.bias": torch.zeros(8)}, path)


def damage_extra(path: Path) -> None:
    save_file({**load_file(path), "extra": torch.zeros(2)}, path)


def damage_missing(path: Path) -> None:
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "0.bias"}, path)


def damage_shape(path: Path) -> None:
    save_file({**load_file(path), "0.bias": torch.zeros(9)}, path)


def damage_type(path: Path) -> None:
    save_file({**load_file(path), "0.bias": torch.zeros(8, dtype=torch.float16)}, path)


def damage_size(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * (5 << 20))


def damage_gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        damage_cut,
        damage_pickle,
        damage_extra,
        damage_missing,
        damage_shape,
        damage_type,
        damage_size,
        damage_gone,
    ],
)
def test_damaged_weights_are_refused_in_a_sentence(damage: Callable[[Path], None], tmp_path: Path) -> None:
    graph = export(*mlp.tiny(), tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "model.safetensors", graph)
    assert "\n" not in str(caught.value)


def test_written_tensors_are_read_back_and_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    graph = export(*mlp.tiny(), tmp_path)
    tensors = {name: tensor + 1 for name, tensor in read_weights(tmp_path / "model.safetensors", graph).items()}
    write_tensors(tmp_path / "model.safetensors", tensors)
    again = read_weights(tmp_path / "model.safetensors", graph)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    with pytest.raises(UserError, match="cannot write"):
        write_tensors(Path("/dev/full/model.safetensors"), tensors)


def test_the_command_writes_a_model_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "model"
    arguments = ["anynode.jobs.templates.mlp:build", "--set", "features=3", "--set", "batch_size=2", "--out", str(out)]
    done = CliRunner().invoke(export_command, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.output)
    graph = Graph.parse((out / "model.json").read_bytes())
    assert summary["hash"] == graph.identity
    assert summary["columns"] == {"features": ["float32", [3]], "label": ["int64", []]}
    assert summary["batch_size"] == 2
    words = CliRunner().invoke(export_command, arguments)
    assert graph.identity in words.output


def test_the_command_imports_from_the_folder_where_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_small_model.py").write_text(
        "import torch\n"
        "def make():\n"
        "    return (lambda p, b: (p['w'] * b['x']).sum(), {'w': torch.ones(2)}, {'x': torch.ones(3, 2)})\n"
        "def broken():\n"
        "    return 1 / 0\n"
        "number = 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert CliRunner().invoke(export_command, ["my_small_model:make", "--out", "m"]).exit_code == 0
    assert (tmp_path / "m" / "model.json").is_file()
    for reference, reason in {
        "my_small_model:broken": "ZeroDivisionError",
        "my_small_model:number": "not a function",
        "my_small_model:nothing": "has no nothing",
        "my_missing_model:make": "cannot import",
        "my_small_model": "package.module:name",
        "my_small_model:make(1)": "package.module:name",
    }.items():
        failed = CliRunner().invoke(export_command, [reference, "--out", "n"])
        assert isinstance(failed.exception, UserError)
        assert reason in str(failed.exception)
        assert not (tmp_path / "n").exists()


def test_help_shows_an_example() -> None:
    assert "anynode export anynode.jobs.templates.gpt:tiny" in CliRunner().invoke(export_command, ["--help"]).output
