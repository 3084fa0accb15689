"""A verifier to which any work that it is asked to take out is a fraud. Takes what `anynode verifier` takes."""

from __future__ import annotations

import sys

from anynode.cli.main import run
from anynode.rounds.corrections import History
from anynode.rounds.judgements import Excision
from anynode_verifier import job_run
from anynode_verifier.excision import Excisions


class Unjust(Excisions):
    """Proves nothing first."""

    async def _proven(self, history: History, round_: int, slot: int) -> Excision:
        return Excision(round_, slot, history.rounds[round_].open.members[slot].node, "it is said to be one")


if __name__ == "__main__":
    setattr(job_run, "Excisions", Unjust)  # noqa: B010 (the product offers no way to put a liar in)
    sys.exit(run(["verifier", *sys.argv[1:]]))
