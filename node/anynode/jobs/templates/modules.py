"""From a seeded ``nn.Module`` to an exportable function of its parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anynode.jobs.export import Exportable


def from_module(
    make: Callable[[], nn.Module],
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    example_batch: dict[str, Tensor],
    *,
    seed: int,
) -> Exportable:
    """``make`` runs under ``seed`` (the global random state is left alone); ``loss(module, batch)`` is a scalar."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    carrier = _Carrier(module, loss)

    def loss_of_params(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        named = {f"module.{name}": tensor for name, tensor in params.items()}
        value: Tensor = torch.func.functional_call(carrier, named, (batch,))
        return value

    params = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    return Exportable(loss_of_params, params, example_batch)


class _Carrier(nn.Module):
    def __init__(self, module: nn.Module, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.module = module
        self._loss = (loss,)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self._loss[0](self.module, batch)
