"""A byte-level GPT: pre-norm blocks, causal attention, learned positions. About 1M parameters by default.

anynode export anynode.jobs.templates.gpt:build --set layers=4 --out model/
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anynode.jobs.export import Exportable
from anynode.jobs.templates.modules import from_module

VOCABULARY = 256


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a LayerNorm and added to its input [B, T, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron_in = nn.Linear(width, 4 * width)
        self.perceptron_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        query, key, value = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attention_in(self.attention_norm(x)).split(width, dim=2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        perceptron: Tensor = self.perceptron_out(
            F.gelu(self.perceptron_in(self.perceptron_norm(x)), approximate="tanh")
        )
        return x + perceptron


class ByteGPT(nn.Module):
    """Logits [B, T, 256] of the next byte from bytes [B, T] (int64)."""

    def __init__(self, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.apply(_initialise)
        for name, weight in self.named_parameters():
            if name.endswith("_out.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def next_byte_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross entropy of each next byte. ``batch["tokens"]``: uint8 [B, T + 1]."""
    tokens = batch["tokens"].long()
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def build(
    *, width: int = 128, layers: int = 5, heads: int = 4, context: int = 64, batch_size: int = 8, seed: int = 0
) -> Exportable:
    """Column ``tokens``: uint8 [batch_size, context + 1]. 1.07M parameters with the defaults."""
    example = torch.arange(batch_size * (context + 1), dtype=torch.int64).remainder(VOCABULARY)
    return from_module(
        lambda: ByteGPT(width, layers, heads, context),
        next_byte_loss,
        {"tokens": example.to(torch.uint8).view(batch_size, context + 1)},
        seed=seed,
    )


def tiny() -> Exportable:
    """A GPT that trains in a test: 16 bytes of context, 2 layers of width 32."""
    return build(width=32, layers=2, heads=2, context=16, batch_size=4)
