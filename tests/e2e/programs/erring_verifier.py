"""A verifier with a fault: its first replays of one node's work in round 0 say that it differs.

``python erring_verifier.py NODE ERRORS [what anynode verifier takes]``; ERRORS: how many of them.
"""

from __future__ import annotations

import sys

from anynode.cli.main import run
from anynode.rounds.events import Replayed
from anynode.training.messages import Claim, Dispute, ReplayVerdict
from anynode_verifier import service
from anynode_verifier.disputes import Disputed
from anynode_verifier.replays import Case, Replayer

NODE, ERRORS = sys.argv.pop(1), int(sys.argv.pop(1))
WRONG = "segment 0 differs in the state after it: recomputed 0000000000000000…, claimed another"


class Erring(Replayer):
    """Right about everything else, and about this too once it has made all its errors."""

    errors_left = ERRORS

    async def _judged(self, case: Case) -> Replayed:
        found = await super()._judged(case)
        if case.committed.node != NODE or case.round != 0 or not self.errors_left:
            return found
        self.errors_left -= 1
        dispute = Dispute(0, "after", "00" * 32, case.committed.trace_root)
        claim = Claim(case.committed.update_root, case.committed.trace_root, None)
        return await self._exact_outcome(case, ReplayVerdict(False, WRONG, dispute, 1, 0.0), Disputed(claim, 0, ""))


if __name__ == "__main__":
    setattr(service, "Replayer", Erring)  # noqa: B010 (the product offers no way to put a fault in)
    sys.exit(run(["verifier", *sys.argv[1:]]))
