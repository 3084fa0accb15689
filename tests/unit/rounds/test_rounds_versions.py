"""A verifier that is updated in the midst of a job keeps its word, and tells who runs the old version what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import PEER_ID
from round_centre import ALICE, BOB, CAROL, RATE_PPM, RULES, Centre
from round_member import CHAIN, Member

from anynode.rounds import member
from anynode.rounds.coordination import RETURN_S
from anynode.rounds.coordinator import Phase, Rules, recall, restore
from anynode.rounds.course import Open, Seal
from anynode.rounds.effects import Answer
from anynode.rounds.events import AuditRates, Replayed, Tick
from anynode.rounds.messages import Commitment, Join, Receipt, Refused

INSTALL = "this node runs 1, the verifier 2; install that one"


def rules_of(version: str, receipted: list[Commitment]) -> Rules:
    """Those of a verifier that never seals a slot as empty for which it has given a receipt."""

    def sign_nothing(round_: int, slots: tuple[int, ...]) -> tuple[str, ...]:
        assert not [item for item in receipted if item.round == round_ and item.slot in slots], "it keeps its word"
        return ("",) * len(slots)

    return replace(RULES, code_version=version, sign_nothing=sign_nothing)


def updated(before: Centre, receipted: list[Commitment], after_s: float = 1.0) -> Centre:
    """The verifier as it starts again in version 2, from its records and its receipts."""
    again = Centre(rules_of("2", receipted))
    again.now, again.records, again.height = before.now + after_s, before.records, before.height
    state = restore(again.state.rules, before.records, again.now)
    again.state = recall(state, [item for item in receipted if item.round == state.round], again.now)
    return again


def refusals(centre: Centre) -> list[tuple[str, str]]:
    said = [effect.message for effect in centre.pick(Answer)]
    return [(item.node, item.reason) for item in said if isinstance(item, Refused)]


@pytest.fixture
def working() -> Centre:
    """A round of Alice and Bob, both of version 1, as their verifier."""
    centre = Centre(rules_of("1", []))
    centre.feed_until_still(Tick())
    centre.join(ALICE, BOB)
    assert centre.state.phase is Phase.WORKING
    return centre


def test_who_runs_another_version_than_replays_it_is_refused() -> None:
    centre = Centre(replace(RULES, code_version="2"))
    centre.feed(Tick())
    centre.feed(Join("join", ALICE, PEER_ID, "class", "1", True, False))
    ((node, reason),) = refusals(centre)
    assert node == ALICE and INSTALL in reason


def test_what_was_receipted_before_an_update_is_sealed_after_it(working: Centre) -> None:
    working.commit(ALICE)
    again = updated(working, [working.commitment(ALICE)])
    again.hear(ALICE, BOB)
    again.feed(again.commitment(ALICE))
    assert [type(effect.message) for effect in again.pick(Answer)] == [Receipt], "it stands by its receipt"
    again.now += RULES.work_s
    again.hear(ALICE, BOB)
    seal = again.newest(Seal)
    assert [item.node for item in seal.commitments] == [ALICE]
    assert [item.reason for item in seal.missing] == ["no commitment arrived before the deadline"]


def test_who_commits_in_the_old_version_is_told_and_holds_nobody_up(working: Centre) -> None:
    working.commit(ALICE)
    again = updated(working, [working.commitment(ALICE)])
    again.hear(ALICE, BOB)
    for _ in range(2):  # the first answer may be lost
        again.feed(again.commitment(BOB))
        ((node, reason),) = refusals(again)
        assert node == BOB and INSTALL in reason
    again.feed_until_still(AuditRates(0, (RATE_PPM,) * 2))
    seal = again.newest(Seal)
    assert [item.node for item in seal.commitments] == [ALICE], "nobody waits for Bob"
    assert [item.reason for item in seal.missing] == ["it runs AnyNode 1, whose work cannot be replayed here"]


def join(centre: Centre, name: str, version: str) -> None:
    centre.feed_until_still(Join("join", name, PEER_ID, "class", version, True, False))


@pytest.mark.parametrize("names", [(ALICE,), ()], ids=["receipted before the update", "refused after it"])
def test_who_has_worked_in_the_old_version_has_no_place_until_it_joins_anew(
    working: Centre, names: tuple[str, ...]
) -> None:
    working.commit(*names)
    again = updated(working, [working.commitment(name) for name in names])
    join(again, CAROL, "2")
    again.hear(ALICE, BOB, CAROL)
    again.commit(ALICE, BOB)
    again.now += RULES.work_s
    again.hear(ALICE, BOB, CAROL)
    again.feed_until_still(*(Replayed(0, slot, "void", "none", "of version 1") for slot in range(len(names))))
    again.close(*names, CAROL)
    again.now += RETURN_S
    again.hear(ALICE, BOB, CAROL)
    assert [place.node for place in again.newest(Open).members] == [CAROL]
    join(again, ALICE, "1")
    assert [node for node, _ in refusals(again)] == [ALICE]
    join(again, ALICE, "2")
    again.feed_until_still(again.commitment(CAROL, code_version="2"))
    again.replay()
    again.exchange()
    again.close(ALICE, CAROL)
    again.hear(ALICE, CAROL)
    assert [place.node for place in again.newest(Open).members] == [ALICE, CAROL], "it was updated"


def test_an_update_between_two_rounds_opens_none_for_members_of_the_old_version(working: Centre) -> None:
    working.commit(ALICE, BOB)
    working.replay()
    working.exchange()
    again = updated(working, [])
    again.close(ALICE, BOB)
    again.now += RETURN_S
    again.hear(ALICE, BOB)
    assert again.state.phase is Phase.WAITING
    join(again, BOB, "2")
    again.hear(BOB)
    assert [place.node for place in again.newest(Open).members] == [BOB]


# --- members --------------------------------------------------------------------------------------------------------


def test_a_member_joins_again_where_no_round_follows_its_own() -> None:
    """The coordinator may know it as one that has left, or that runs another version."""
    alice = Member(held=1)
    alice.records(*CHAIN[:6])
    assert alice.after(alice.state.me.join_s - 1) and not alice.sent(Join), "the next round is about to open"
    alice.after(1.0)
    assert len(alice.sent(Join)) == 1
    alice.feed(Refused("refused", ALICE, INSTALL))
    alice.after(60.0)
    assert not alice.sent(Join) and alice.state.over


def test_a_member_that_starts_between_two_rounds_joins_at_once() -> None:
    alice = Member(held=1)
    alice.state = member.restore(alice.state, CHAIN[:6], alice.now)
    alice.feed(Tick())
    assert len(alice.sent(Join)) == 1
