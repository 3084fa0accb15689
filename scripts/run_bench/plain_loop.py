"""The plain PyTorch loop that AnyNode is measured against: the fastest way to write it, the same steps.

python plain_loop.py FOLDER trains the GPT template on the data set in FOLDER, and answers each line of standard input,
a number of steps, with the wall and processor seconds that they took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from anynode.data.dataset import DataSet
from anynode.jobs.settings import Training
from anynode.jobs.templates import gpt


class PlainLoop:
    """A module, PyTorch's fused AdamW, and its clipping of gradients."""

    def __init__(
        self, module: nn.Module, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor], settings: Training
    ) -> None:
        self.module, self._loss, self._clip_norm = module, loss, settings.clip_norm
        self._optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def slope(self, batch: dict[str, Tensor]) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.module, batch)
        torch.autograd.backward(loss)
        return loss.detach()

    def step(self, batch: dict[str, Tensor]) -> None:
        self.slope(batch)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_norm)
        self._optimizer.step()


def main(folder: Path) -> None:
    """Train as many steps as each line says."""
    torch.set_num_threads(1)
    settings = Training.model_validate_json((folder / "training.json").read_bytes())
    made = gpt.build(batch_size=settings.batch_size)
    module = gpt.ByteGPT(128, 5, 4, 64)
    module.load_state_dict(made.params)
    loop = PlainLoop(module, gpt.next_byte_loss, settings)
    data = DataSet.open(folder)
    tokens = data.batch(range(data.samples))["tokens"]
    generator = torch.Generator().manual_seed(0)
    for line in sys.stdin:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            loop.step({"tokens": tokens[torch.randint(0, data.samples, (settings.batch_size,), generator=generator)]})
        took = {"seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s}
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
