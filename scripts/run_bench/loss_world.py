"""The ground that all settings of the bench `loss` share: text, model, initial weights, validation."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from loss_settings import BATCH_SIZE, CONTEXT
from torch import Tensor

from anynode.data.dataset import DataSet
from anynode.data.pack import pack_text, text_files
from anynode.jobs.export import Exportable, export
from anynode.jobs.graph import Graph
from anynode.jobs.templates import gpt
from anynode.rounds.deal import sample_indices
from anynode_contracts.canonical import hash_hex

WIDTH, LAYERS, HEADS = 32, 1, 4
VALIDATION_SAMPLES = 512
"""As many as a job evaluates by default."""


class World:
    """Bytes of the Python standard library's sources as tokens, and a small GPT of the project's own template.

    ``folder`` takes the data set and the exported model.
    """

    def __init__(self, folder: Path) -> None:
        library = Path(sysconfig.get_paths()["stdlib"])
        pack_text(text_files(library, (".py",)), folder / "data", CONTEXT + 1)
        self.data = DataSet.open(folder / "data")
        first = self._build(0)
        self.graph: Graph = export(first.loss, first.params, first.example_batch, folder / "model")

    @property
    def model_shape(self) -> str:
        return f"template gpt, width {WIDTH}, layers {LAYERS}, heads {HEADS}"

    @property
    def parameters(self) -> int:
        return self.graph.parameter_count

    def job_id(self, seed: int) -> str:
        """Keys the order of the samples, so that it is the same in all settings of one seed."""
        return hash_hex(f"anynode bench loss {seed}".encode())

    def initial(self, seed: int) -> dict[str, Tensor]:
        """The weights that every setting of one seed starts from, by name."""
        return dict(self._build(seed).params)

    def module(self, weights: Mapping[str, Tensor]) -> gpt.ByteGPT:
        """The model as a plain PyTorch module with its own copy of ``weights``."""
        model = gpt.ByteGPT(WIDTH, LAYERS, HEADS, CONTEXT)
        model.load_state_dict(dict(weights))
        return model

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return self.data.batch(indices)

    def at(self, seed: int, start: int, end: int) -> list[int]:
        """The sample numbers at positions ``start`` to ``end`` of the seed's keyed permutation."""
        return sample_indices(self.job_id(seed), [(start, end)], self.data.samples)

    def validation_loss(self, weights: Mapping[str, Tensor]) -> float:
        """Mean loss over validation samples spread evenly over all of them, the same ones for every setting."""
        model = self.module(weights)
        with torch.no_grad():
            losses = [float(gpt.next_byte_loss(model, batch)) for batch in self._validation]
        return sum(losses) / len(losses)

    @cached_property
    def _validation(self) -> list[dict[str, Tensor]]:
        there = self.data.validation_samples
        chosen = [number * there // VALIDATION_SAMPLES for number in range(VALIDATION_SAMPLES)]
        return [self.data.batch(chosen[start : start + 64], "validation") for start in range(0, len(chosen), 64)]

    def _build(self, seed: int) -> Exportable:
        return gpt.build(width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT, batch_size=BATCH_SIZE, seed=seed)
