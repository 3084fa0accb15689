"""What a result leaves out although it was delivered: who may claim it, and what a claim proves. Pure, so all agree.

A receipt of the reducer proves that it left out what it had; one of its witness proves the delivery and accuses nobody,
for it may have come too late to the reducer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from anynode.rounds.course import Assign, Open, Result
from anynode.rounds.judgements import CLAIMS_MAX, Claimed, ReductionJudged, Verdict
from anynode.rounds.messages import Claim, DeliveryReceipt
from anynode.rounds.witnesses import witnesses_of

T = TypeVar("T")


def claimable(
    slot: int | None, opened: Open, result: Result, receipts: Iterable[DeliveryReceipt]
) -> tuple[DeliveryReceipt, ...]:
    """The receipts with which the member in ``slot`` can claim what ``result`` leaves out, the reducers' own first."""
    entries = {entry.chunk: entry for entry in result.chunks if slot not in entry.senders}

    def shows(item: DeliveryReceipt) -> frozenset[int]:
        return frozenset(
            chunk
            for chunk in item.chunks
            if chunk in entries
            and entries[chunk].reducer == item.reducer
            and item.attempt <= entries[chunk].attempt
            and chunk not in item.late
        )

    return _each_chunk_once(receipts, shows, lambda item: item.node == opened.members[item.reducer].node)


def _each_chunk_once(
    receipts: Iterable[T], shows: Callable[[T], Collection[int]], is_of_reducer: Callable[[T], bool]
) -> tuple[T, ...]:
    """The receipts that show a chunk which those before them do not: the reducers' own first, since they prove more, so
    that a witness gains no room by signing much.
    """
    kept, shown = list[T](), set[int]()
    for item in sorted(receipts, key=lambda item: not is_of_reducer(item)):
        chunks = shows(item)
        if not shown.issuperset(chunks):
            kept.append(item)
            shown.update(chunks)
    return tuple(kept)


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
    if len(item.payloads) != len(item.chunks) or len(set(item.chunks)) < len(item.chunks):
        return "does not name a payload for each of its chunks"
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
    full = len(verdict.claims) >= CLAIMS_MAX  # it can carry no more, of what proves more than a delivery
    all_blame = full and all(item.signer == item.reducer for item in verdict.claims)
    counted = delivered_by_claim(verdict, result)
    blames = blamed(verdict.claims, opened, result).keys()
    for slot, claims in sorted(known.items()):
        shown = {chunk for item in claims for chunk in omitted(item, result)}
        unpaid = not full and not shown <= counted.get(slot, frozenset())
        spared = not all_blame and not blamed(claims, opened, result).keys() <= blames
        if unpaid or spared:
            return f"passes over the claim of slot {slot}"
    return ""


def merged(known: Iterable[Claimed], new: Iterable[Claimed], result: Result, most: int) -> tuple[Claimed, ...]:
    """Both of one sender, no more than ``most``: the reducers' own first, each only where it shows a chunk more."""
    both = _each_chunk_once(
        (*known, *new), lambda item: omitted(item, result), lambda item: item.signer == item.reducer
    )
    return both[:most]


def weightiest(claims: Mapping[int, Sequence[Claimed]], most: int) -> tuple[Claimed, ...]:
    """No more than ``most`` of the claims of all senders, by slot: first those that prove an omission."""
    every = (item for _, items in sorted(claims.items()) for item in items)
    return tuple(sorted(every, key=lambda item: item.signer != item.reducer)[:most])
