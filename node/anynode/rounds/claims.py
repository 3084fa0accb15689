"""What a result leaves out although it was delivered: who may claim it, and what a claim proves. Pure, so all agree.

A receipt of the reducer proves that it left out what it had; one of its witness proves the delivery and accuses nobody,
for it may have come too late to the reducer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from anynode.rounds.course import Assign, Open, Result
from anynode.rounds.judgements import CLAIMS_MAX, Claimed, ReductionJudged, Verdict
from anynode.rounds.messages import Claim, DeliveryReceipt
from anynode.rounds.witnesses import witnesses_of


def claimable(slot: int | None, result: Result, receipts: Iterable[DeliveryReceipt]) -> tuple[DeliveryReceipt, ...]:
    """The receipts with which the member in ``slot`` can claim what ``result`` leaves out."""
    entries = {entry.chunk: entry for entry in result.chunks if slot not in entry.senders}
    return tuple(
        item
        for item in receipts
        if any(
            chunk in entries
            and entries[chunk].reducer == item.reducer
            and item.attempt <= entries[chunk].attempt
            and chunk not in item.late
            for chunk in item.chunks
        )
    )


def leaves_out(assign: Assign, result: Result) -> frozenset[tuple[int, int]]:
    """The pairs of chunk and accepted slot that are not in the result."""
    accepted = set(assign.accepted)
    return frozenset(
        (entry.chunk, slot)
        for entry in result.chunks
        if len(entry.senders) < len(accepted)
        for slot in accepted.difference(entry.senders)
    )


def claimed_of(claim: Claim, opened: Open) -> tuple[Claimed, ...]:
    """What a verdict records of a claim. Raises ``KeyError`` for a receipt of a node that had no place."""
    slots = {member.node: member.slot for member in opened.members}
    return tuple(
        Claimed(
            slot=item.slot,
            signer=slots[item.node],
            reducer=item.reducer,
            attempt=item.attempt,
            chunks=item.chunks,
            payloads=item.payloads,
            late=item.late,
            signature=item.signature,
        )
        for item in claim.receipts
    )


def receipt_of(item: Claimed, opened: Open) -> DeliveryReceipt:
    """The receipt behind a claim, as its signer has signed it."""
    return DeliveryReceipt(
        kind="delivery_receipt",
        node=opened.members[item.signer].node,
        round=opened.round,
        attempt=item.attempt,
        slot=item.slot,
        reducer=item.reducer,
        chunks=item.chunks,
        payloads=item.payloads,
        late=item.late,
        signature=item.signature,
    )


def omitted(item: Claimed, result: Result) -> tuple[int, ...]:
    """The chunks of a claim that the result holds from that reducer, said no earlier, without the sender."""
    entries = {entry.chunk: entry for entry in result.chunks}
    return tuple(
        chunk
        for chunk in item.chunks
        if chunk in entries
        and entries[chunk].reducer == item.reducer
        and item.slot not in entries[chunk].senders
        and item.attempt <= entries[chunk].attempt
        and chunk not in item.late
    )


def fault_of(item: Claimed, opened: Open, assigns: Sequence[Assign], result: Result) -> str:
    """Why a claim shows nothing; empty if it does. ``assigns`` are all of the round, in order of their attempts."""
    if item.attempt >= len(assigns) or item.slot not in assigns[item.attempt].accepted or item.signer == item.slot:
        return "is of no sender of the round"
    witnesses = witnesses_of(opened, assigns[item.attempt], item.reducer, item.slot)
    if item.signer != item.reducer and item.signer not in witnesses:
        return "is of neither the reducer nor a witness"
    return "" if omitted(item, result) else "is for nothing that the result leaves out"


def blamed(claims: Iterable[Claimed], opened: Open, result: Result) -> dict[int, ReductionJudged]:
    """By chunk, the reductions that claims prove to be wrong."""
    found: dict[int, ReductionJudged] = {}
    for item in claims:
        for chunk in omitted(item, result) if item.signer == item.reducer else ():
            node = opened.members[item.reducer].node
            reason = f"it left out slot {item.slot}, to which it had given a receipt for this chunk"
            found.setdefault(chunk, ReductionJudged(chunk, item.reducer, node, "rejected", reason))
    return found


def delivered_by_claim(verdict: Verdict, result: Result) -> Mapping[int, frozenset[int]]:
    """By slot, the chunks that count as delivered although the result leaves them out."""
    found: dict[int, frozenset[int]] = {}
    for item in verdict.claims:
        found[item.slot] = found.get(item.slot, frozenset()).union(omitted(item, result))
    return found


def passed_over(known: Mapping[int, Sequence[Claimed]], verdict: Verdict, opened: Open, result: Result) -> str:
    """Which of the ``known`` claims, by slot, a verdict does not carry; empty if it carries all that they show."""
    if len(verdict.claims) >= CLAIMS_MAX:
        return ""  # it can carry no more
    counted = delivered_by_claim(verdict, result)
    blames = blamed(verdict.claims, opened, result).keys()
    for slot, claims in sorted(known.items()):
        shown = {chunk for item in claims for chunk in omitted(item, result)}
        if not shown <= counted.get(slot, frozenset()) or not blamed(claims, opened, result).keys() <= blames:
            return f"passes over the claim of slot {slot}"
    return ""


def merged(known: Sequence[Claimed], new: Iterable[Claimed], most: int) -> tuple[Claimed, ...]:
    """Both, each receipt once, and no more than ``most``."""
    said = dict.fromkeys(replace(item, signature="") for item in known)
    fresh = [item for item in new if replace(item, signature="") not in said]
    return (*known, *fresh)[:most]
