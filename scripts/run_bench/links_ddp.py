"""A peer of PyTorch DDP over gloo, for the bench `links`: gradients are averaged at every step."""

from __future__ import annotations

import os
import statistics

import torch.distributed as dist
from links_work import Rounds, Task, Training, wait_for_all
from torch.nn.parallel import DistributedDataParallel

ALONE_STEPS = 5


def main() -> None:
    task = Task.read()
    os.environ["GLOO_SOCKET_IFNAME"] = "line"
    training = Training(task)
    dist.init_process_group("gloo", init_method=task.meeting, rank=task.rank, world_size=task.peers)
    module = DistributedDataParallel(training.model)
    optimizer = training.optimizer(module.parameters())
    # DDP talks while it computes the gradient: what computing takes is measured without that.
    with module.no_sync():
        compute_s = statistics.median([training.gradients(module) for _ in range(ALONE_STEPS)])
    rounds = Rounds(training)
    wait_for_all()
    while True:
        training.gradients(module)
        optimizer.step()
        rounds.say(1, compute_s)


if __name__ == "__main__":
    main()
