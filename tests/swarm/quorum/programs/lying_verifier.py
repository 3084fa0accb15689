"""A verifier on duty that gives one record to some and another to others. Takes what `anynode verifier` takes."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

from anynode.cli.main import run
from anynode.rounds.ballots import Proposal, Said
from anynode.rounds.course import Begin
from anynode_contracts.canonical import canonical_json
from anynode_verifier import agreement
from anynode_verifier.agreement import QUORUM, Agreement

TURNS = itertools.count()


def tell(self: Agreement, message: Said) -> None:
    for place, node in enumerate(self._peer_of, start=next(TURNS)):
        said = message
        if isinstance(message, Proposal) and place % 2:
            body = Begin("begin", 0, "f" * 64)
            said = replace(message, basis=replace(message.basis, record=replace(message.basis.record, body=body)))
            said = self._signed(said)
        request = self._chain.job.encode() + canonical_json(agreement.asdict(said))
        self._in_background(self._call(node, QUORUM, request))


if __name__ == "__main__":
    setattr(Agreement, "tell", tell)  # noqa: B010 (the product offers no way to put a liar in)
    sys.exit(run(["verifier", *sys.argv[1:]]))
