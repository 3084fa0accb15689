"""A small residual ConvNet for images, with GroupNorm: it keeps no running statistics, so it can be a job.

anynode export anynode.jobs.templates.convnet:build --set width=32 --out model/
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anynode.jobs.export import Exportable
from anynode.jobs.templates.modules import from_module

_GROUPS = 4


class Residual(nn.Module):
    """Two 3x3 convolutions with GroupNorm, added to the input [B, C, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(_GROUPS, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(_GROUPS, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(x + self.second_norm(self.second(y)))


def image_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross entropy. ``image``: uint8 [B, C, H, W], 0 to 255; ``label``: int64 [B]."""
    image = batch["image"].to(torch.float32) / 127.5 - 1.0
    return F.cross_entropy(model(image), batch["label"])


def network(width: int, stages: int, channels: int, classes: int) -> nn.Module:
    """Logits [B, classes] from images [B, channels, H, W], halved between the stages."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
    for stage in range(stages):
        layers += [Residual(width)]
        if stage < stages - 1:
            layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def build(
    *,
    width: int = 32,
    stages: int = 3,
    channels: int = 3,
    pixels: int = 32,
    classes: int = 10,
    batch_size: int = 16,
    seed: int = 0,
) -> Exportable:
    """Columns ``image``: uint8 [B, channels, pixels, pixels] and ``label``: int64 [B]. ``width`` is divisible by 4."""

    def make() -> nn.Module:
        return network(width, stages, channels, classes)

    count = batch_size * channels * pixels * pixels
    image = torch.arange(count).remainder(251).to(torch.uint8).view(batch_size, channels, pixels, pixels)
    label = torch.arange(batch_size).remainder(classes)
    return from_module(make, image_loss, {"image": image, "label": label}, seed=seed)


def tiny() -> Exportable:
    """Two stages of width 8 on 8x8 images."""
    return build(width=8, stages=2, channels=1, pixels=8, batch_size=4)
