"""A worker that is honest until it is proven, and from round 1 on trains its samples in another order.

Takes the arguments of ``anynode join``.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from anynode.cli.main import run
from anynode.training.messages import WorkSpec
from anynode.worker import session
from anynode.worker.worker import Worker


class Turning(Worker):
    """Commits to work that it was not given."""

    async def _train(self, spec: WorkSpec, time_limit_s: float) -> None:
        turned = spec.indices if spec.round == 0 else tuple(reversed(spec.indices))
        await super()._train(replace(spec, indices=turned), time_limit_s)


if __name__ == "__main__":
    setattr(session, "Worker", Turning)  # noqa: B010 (the product offers no way to put a cheat in)
    sys.exit(run(["join", *sys.argv[1:]]))
