"""A peer of `hivemind.Optimizer` for the bench `links`: gradients averaged at every step, or local updates.

With ``inner_steps`` of 1 it averages gradients of one batch of each peer; with more, peers take local steps and average
their parameters once all of them together have done so many steps each.
"""

from __future__ import annotations

import time

import hivemind
import hivemind_8bit
from hivemind.compression import Float16Compression, SizeAdaptiveCompression, Uniform8BitQuantization
from links_work import Rounds, Task, Training, tell, wait_for_all

PORT = 29600
MATCHMAKING_S = 2.0
POLL_S = 0.002


def main() -> None:
    hivemind_8bit.mend()
    task = Task.read()
    training = Training(task)
    dht = hivemind.DHT(
        host_maddrs=[f"/ip4/{task.address}/tcp/{PORT}"],
        initial_peers=[task.meeting] if task.meeting else [],
        use_relay=False,
        start=True,
    )
    tell(address=str(dht.get_visible_maddrs()[0]))
    compression = SizeAdaptiveCompression(
        threshold=2**16, less=Float16Compression(), greater_equal=Uniform8BitQuantization()
    )
    local = task.inner_steps > 1
    optimizer = hivemind.Optimizer(
        dht=dht,
        run_id="links",
        batch_size_per_step=task.shape.batch,
        target_batch_size=task.shape.batch * task.peers * task.inner_steps,
        params=training.model.parameters(),
        optimizer=training.optimizer,
        matchmaking_time=MATCHMAKING_S,
        averaging_timeout=120.0,
        next_chunk_timeout=30.0,
        use_local_updates=local,
        delay_state_averaging=task.overlap,
        average_state_every=1 if local else 1000,
        grad_compression=compression,
        state_averaging_compression=compression,
        averager_opts={"target_group_size": task.peers, "request_timeout": 1.0},
        tracker_opts={"min_refresh_period": 0.2, "default_refresh_period": 0.5},
    )
    rounds = Rounds(training)
    wait_for_all()
    while True:
        epoch, steps = optimizer.local_epoch, 0
        while optimizer.local_epoch == epoch:
            training.gradients(training.model)
            optimizer.step()
            steps += 1
            while not local and optimizer.local_epoch == epoch:
                # One batch of each peer is a step: wait for the others instead of computing more than that.
                if optimizer.tracker.ready_to_update_epoch:
                    optimizer.step(batch_size=0)
                time.sleep(POLL_S)
        rounds.say(steps)


if __name__ == "__main__":
    main()
