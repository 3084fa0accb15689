"""A peer of torchft's DiLoCo over gloo, for the bench `links`; or, with ``lighthouse``, the server that all need.

Its best setting here: all tensors of an averaging in one bucket, no delay at the lighthouse. Its quantised all-reduce
needs a GPU with Triton, so that pseudo-gradients travel as float32.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta

import torch
from links_work import Rounds, Task, Training, wait_for_all
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public all the same
from torchft.coordination import LighthouseServer
from torchft.local_sgd import DiLoCo
from torchft.manager import Manager
from torchft.process_group import ProcessGroupGloo

LIGHTHOUSE_PORT = 29510
LIMIT = timedelta(seconds=600)


def lighthouse(peers: int) -> None:
    server = LighthouseServer(
        bind=f"0.0.0.0:{LIGHTHOUSE_PORT}", min_replicas=peers, join_timeout_ms=60_000, quorum_tick_ms=10
    )
    print(server.address(), flush=True)
    threading.Event().wait()


def main() -> None:
    task = Task.read()
    os.environ["GLOO_SOCKET_IFNAME"] = "line"
    training = Training(task)
    store = TCPStore(task.address, 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=LIMIT),
        load_state_dict=training.model.load_state_dict,
        state_dict=training.model.state_dict,
        min_replica_size=task.peers,
        use_async_quorum=False,
        timeout=LIMIT,
        quorum_timeout=LIMIT,
        rank=0,
        world_size=1,
        store_addr=task.address,
        store_port=store.port,
        lighthouse_addr=task.meeting,
        replica_id=f"peer-{task.rank}",
        hostname=task.address,
        init_sync=False,
    )
    inner = training.optimizer(training.model.parameters())
    outer = torch.optim.SGD(training.model.parameters(), lr=0.7, momentum=0.9, nesterov=True)
    rounds = Rounds(training)
    wait_for_all()
    with DiLoCo(manager, [training.model], inner, outer, sync_every=task.inner_steps, use_bucketization=True):
        while True:
            for _ in range(task.inner_steps):
                training.gradients(training.model)
                inner.step()
            rounds.say(task.inner_steps)


if __name__ == "__main__":
    if sys.argv[1] == "lighthouse":
        lighthouse(int(sys.argv[2]))
    else:
        main()
