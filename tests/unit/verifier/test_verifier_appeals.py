"""Appeals in the records: what a ruling must follow from, and what it does to who has appealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from appealed_world import ACCUSED, BETRAYS, ERRS, TRAITOR, AppealedWorld
from signed_world import DOMAIN

from anynode.rounds.judgements import Ruling
from anynode.rounds.records import Record
from anynode_contracts.errors import BreachError, RefusedError
from anynode_verifier.lineage import Reader, follow

CALLER = "192.0.2.1"


def rechained(appealed: AppealedWorld, change: Callable[[Ruling], Ruling]) -> list[Record]:
    """The chain up to its first ruling, with that one changed."""
    place = next(n for n, record in enumerate(appealed.records) if isinstance(record.body, Ruling))
    record = appealed.records[place]
    assert isinstance(record.body, Ruling)
    return [*appealed.records[:place], replace(record, body=change(record.body))]


def test_the_chain_follows_and_the_honest_are_back(appealed: AppealedWorld) -> None:
    rulings = {(item.round, item.node): item for item in appealed.rulings}
    assert rulings[ERRS, ACCUSED].granted and not rulings[BETRAYS, TRAITOR].granted
    reader = Reader(appealed.job, DOMAIN)
    for record in appealed.records:
        reader.take(record)
    assert reader.standings[ACCUSED].proven and not reader.standings[ACCUSED].banned
    assert reader.standings[TRAITOR].banned
    assert {name: appealed.standing(name) for name in reader.standings} == reader.standings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, appeal="0x" + "00" * 65), "no valid signature"),
        (lambda r: replace(r, node=TRAITOR if r.node == ACCUSED else ACCUSED), "not rejected"),
        (lambda r: replace(r, slot=r.slot + 1), "not rejected"),
        (lambda r: replace(r, round=r.round + 1), "not rejected"),
        (lambda r: replace(r, granted=not r.granted), "mistaken"),
        (lambda r: replace(r, mistaken=""), "mistaken"),
        (lambda r: replace(r, heard=False, granted=True), "nobody has replayed"),
    ],
)
def test_a_ruling_that_does_not_follow_is_refused(
    appealed: AppealedWorld, change: Callable[[Ruling], Ruling], words: str
) -> None:
    with pytest.raises((RefusedError, BreachError), match=words):
        follow(rechained(appealed, change), appealed.job, DOMAIN)


def test_a_second_ruling_is_refused(appealed: AppealedWorld) -> None:
    once = rechained(appealed, lambda ruling: ruling)
    again = replace(once[-1], height=once[-1].height + 1, previous=once[-1].hash)
    with pytest.raises(RefusedError, match="second time"):
        follow([*once, again], appealed.job, DOMAIN)
