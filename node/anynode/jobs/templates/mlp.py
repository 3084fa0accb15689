"""A multi-layer perceptron on rows of numbers, for classification.

anynode export anynode.jobs.templates.mlp:build --set features=20 --set classes=3 --out model/
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anynode.jobs.export import Exportable
from anynode.jobs.templates.modules import from_module


def class_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross entropy. ``features``: float32 [B, F]; ``label``: int64 [B]."""
    return F.cross_entropy(model(batch["features"]), batch["label"])


def build(
    *, features: int = 32, width: int = 128, layers: int = 2, classes: int = 10, batch_size: int = 32, seed: int = 0
) -> Exportable:
    """Columns ``features``: float32 [batch_size, features] and ``label``: int64 [batch_size]."""

    def make() -> nn.Module:
        sizes = [features, *[width] * layers]
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(sizes[-1], classes))

    rows = torch.linspace(-1.0, 1.0, batch_size * features).view(batch_size, features)
    label = torch.arange(batch_size).remainder(classes)
    return from_module(make, class_loss, {"features": rows, "label": label}, seed=seed)


def tiny() -> Exportable:
    """Four features, one hidden layer of 8, three classes."""
    return build(features=4, width=8, layers=1, classes=3, batch_size=4)
