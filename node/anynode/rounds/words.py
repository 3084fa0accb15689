"""A coordinator's word on one slot of a round: what it has of it, which is its receipt, or nothing, which stands in the
seal. It gives one word on each; both on one are a proof, like two votes. Pure but for recovering signers.

The words are signed as votes at heights that no chain reaches. So what checks, spreads and punishes two votes of one
verifier, on the chain too, does so with two words.
"""

from __future__ import annotations

from anynode.rounds.course import Seal
from anynode.rounds.messages import Commitment, Receipt
from anynode.rounds.votes import Equivocation, Vote
from anynode_contracts.canonical import canonical_json, hash_hex

WORDS_FROM = 1 << 47
"""The height that stands for round 0."""

NOTHING = "0" * 64


def word_of(item: Commitment | Receipt) -> str:
    """What a receipt says of its slot."""
    return hash_hex(canonical_json([item.node, item.update_root, item.trace_root]))


def receipted(receipt: Receipt) -> Vote:
    """The vote behind a receipt."""
    return Vote(WORDS_FROM + receipt.round, receipt.slot, "prepare", word_of(receipt))


def nothing_of(round_: int, slot: int) -> Vote:
    """The vote with which the sealer says that it has given no receipt to a slot."""
    return Vote(WORDS_FROM + round_, slot, "prepare", NOTHING)


def broken(job: str, receipt: Receipt, seal: Seal) -> Equivocation | None:
    """The proof against the sealer of a round, if it has signed ``receipt``; none where the seal holds its slot."""
    for reason, signature in zip(seal.missing, seal.absences, strict=True):
        if reason.slot == receipt.slot:
            said = receipted(receipt)
            return Equivocation(
                job=job,
                signer=seal.sealer,
                height=said.height,
                view=said.view,
                phase=said.phase,
                records=(said.record, NOTHING),
                signatures=(receipt.signature, signature),
            )
    return None


def what_was_signed(proof: Equivocation) -> str:
    """A proof's two signatures, in words."""
    if proof.height < WORDS_FROM:
        return f"two records at height {proof.height}"
    return f"a receipt and a seal without it, round {proof.height - WORDS_FROM}, slot {proof.view}"
