"""Who must sign a record, and whether enough did (docs/design.md, Quorum). Pure but for recovering signers."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from anynode.rounds.course import Seal
from anynode.rounds.records import SignedRecord
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation, Phase, Vote
from anynode.rounds.words import nothing_of
from anynode_contracts.errors import BreachError, Offence, RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain, check, recover


@dataclass(frozen=True, slots=True)
class Verifiers:
    """The verifiers of a network in the order of its file; ``quorum`` of them must sign a record."""

    addresses: tuple[str, ...]
    quorum: int

    @classmethod
    def of(cls, network: Network) -> Verifiers:
        return cls(network.verifiers, network.signatures_needed)

    def needed(self, excluded: AbstractSet[str] = frozenset()) -> int:
        """How many signatures certify, when those proven to equivocate are ``excluded``.

        Each exclusion takes one from both sides, so that any two certificates, with whatever exclusions they were
        made, share as many verifiers as before. It never falls to a half of who is left.
        """
        gone = len(excluded & set(self.addresses))
        return max(self.quorum - gone, (len(self.addresses) - gone) // 2 + 1)


def check_proof(proof: Equivocation, domain: SigningDomain, verifiers: Verifiers) -> None:
    """Raise ``BreachError`` unless ``proof`` shows that a verifier of the network has signed two records."""
    if proof.signer not in verifiers.addresses or proof.records[0] == proof.records[1]:
        raise BreachError("a proof of two records shows nothing; it is ignored", Offence.SIGNATURE)
    for vote, signature in zip(proof.votes, proof.signatures, strict=True):
        check(domain, statement(proof.job, vote), signature, proof.signer)


def check_certificate(signed: SignedRecord, domain: SigningDomain, verifiers: Verifiers) -> None:
    """Raise ``BreachError`` unless enough verifiers of the network have certified the record in one view."""
    record = signed.record
    if not is_signed(signed, "certify", domain, verifiers):
        raise BreachError(
            f"record {record.height} of job {record.job[:16]}… is not signed by enough verifiers of this network; "
            "ask another peer or check the network file",
            Offence.SIGNATURE,
        )


def check_words(seal: Seal, job: str, domain: SigningDomain, sealers: Container[str]) -> None:
    """Raise ``BreachError`` unless one of ``sealers`` has sealed the round, and signed that it has nothing of each slot
    that is missing.
    """
    if seal.sealer not in sealers or len(seal.absences) != len(seal.missing):
        raise BreachError(
            f"round {seal.round} is sealed by no verifier of this network, or without its word on each missing slot; "
            "ask another peer or check the network file",
            Offence.SIGNATURE,
        )
    for reason, signature in zip(seal.missing, seal.absences, strict=True):
        check(domain, statement(job, nothing_of(seal.round, reason.slot)), signature, seal.sealer)


def is_signed(signed: SignedRecord, phase: Phase, domain: SigningDomain, verifiers: Verifiers) -> bool:
    """Whether the signatures are of that phase, of different verifiers that no proof excludes, and enough.

    Each proof takes its signer out, and with it one from the number of signatures that are needed.
    """
    record = signed.record
    said = statement(record.job, Vote(record.height, signed.view, phase, record.hash))
    try:
        for proof in signed.proofs:
            check_proof(proof, domain, verifiers)
        signers = {recover(domain, said, signature) for signature in signed.signatures}
    except RefusedError:
        return False
    excluded = {proof.signer for proof in signed.proofs}
    standing = set(verifiers.addresses) - excluded
    return len(signers) == len(signed.signatures) >= verifiers.needed(excluded) and signers <= standing
