"""A false accuser, overturned by an appeal."""

from __future__ import annotations

from appealed_world import ACCUSED, ERRS, appealed_world
from appealing_world import MISTAKEN
from attack import Attack, Expect, Finding
from purse import Purse
from signed_world import DOMAIN

from anynode_verifier.lineage import Reader

ATTACK = Attack(
    "a false accuser, both replays his",
    "A verifier says of honest work, twice, that it differs, and slashes its worker.",
    "caught",
)


def test_an_appeal_takes_the_rejection_back_and_names_who_erred(purse: Purse, expect: Expect) -> None:
    world = appealed_world()
    (ruling,) = (item for item in world.rulings if (item.round, item.node) == (ERRS, ACCUSED))
    assert ruling.granted and ruling.mistaken == MISTAKEN
    reader = Reader(world.job, DOMAIN)
    for record in world.records:
        reader.take(record)
    assert reader.standings[ACCUSED].proven and not reader.standings[ACCUSED].banned
    bank = purse.booked(world)
    try:
        accused = bank.book.balances(bank.indices[ACCUSED])
        assert accused.slashed_wei == 0 and accused.earned_wei > 0
    finally:
        bank.book.close()
    expect(Finding("caught", f"the appeal was granted: {ruling.reason}; its node is proven again, and paid"))
