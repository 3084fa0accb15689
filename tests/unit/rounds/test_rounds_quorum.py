"""One verifier among four: what it signs, what it never signs, and how it finds out who lies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from round_actors import JOB, key

from anynode.rounds import quorum, voting
from anynode.rounds.ballots import (
    Advanced,
    Ballot,
    Certified,
    Check,
    Checked,
    Checking,
    Effect,
    Expected,
    Proposal,
    Proven,
    Say,
    Standing,
    Supply,
    Tick,
    Wanted,
)
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Begin
from anynode.rounds.records import GENESIS, Record, SignedRecord
from anynode.rounds.votes import Phase, Vote

NAMES = tuple(key(name).address for name in ("one", "two", "three", "four"))
FOUR = Verifiers(NAMES, 3)
FIRST = int(JOB[:16], 16) % 4
HOLDER, ME, THIRD, LAST = (NAMES[(FIRST + place) % 4] for place in range(4))


def record(mark: str, height: int = 0, previous: str = GENESIS) -> Record:
    return Record(JOB, height, previous, Begin("begin", 3, mark * 64))


A, B = record("a"), record("b")


def state(me: str = ME) -> voting.State:
    return quorum.restore(voting.Rules(JOB, me, FOUR, 10.0, 30.0), voting.Kept(), 0, GENESIS, 0.0)


def proposal(of: Record, view: int = 0, node: str = HOLDER, basis: SignedRecord | None = None) -> Proposal:
    return Proposal("proposal", node, view, basis or SignedRecord(of, view, ()), f"{node} {of.hash} {view}")


def ballot(node: str, of: Record, phase: Phase, view: int = 0) -> Ballot:
    proposed = proposal(of, view).signature if phase == "prepare" else ""
    return Ballot("ballot", node, Vote(of.height, view, phase, of.hash), proposed, f"{node} {phase} {of.hash}")


def feed(before: voting.State, *messages: Any, now: float = 1.0) -> tuple[voting.State, list[Effect]]:
    effects: list[Effect] = []
    for message in messages:
        before, more = quorum.apply(before, message, now)
        effects += more
    return before, effects


def votes(effects: list[Effect]) -> list[tuple[Phase, str]]:
    said = [effect.message for effect in effects if isinstance(effect, Say)]
    return [(item.vote.phase, item.vote.record) for item in said if isinstance(item, Ballot)]


def test_a_record_is_checked_then_prepared_then_certified() -> None:
    now, effects = feed(state(), proposal(A))
    assert effects == [Check(A)]
    now, effects = feed(now, Checked(A.hash, True))
    assert votes(effects) == [("prepare", A.hash)]
    now, effects = feed(now, ballot(ME, A, "prepare"), ballot(THIRD, A, "prepare"))
    assert votes(effects) == [("certify", A.hash)]
    assert now.kept.lock is not None
    assert now.kept.lock.record == A
    now, effects = feed(now, *(ballot(node, A, "certify") for node in (ME, THIRD)))
    assert effects == []
    now, effects = feed(now, ballot(HOLDER, A, "certify"), ballot(LAST, A, "certify"))
    [certified] = effects
    assert isinstance(certified, Certified)
    assert len(certified.signed.signatures) == 3
    now, effects = feed(now, Advanced(1, A.hash, 0))
    assert (now.height, now.head, now.kept.lock, effects) == (1, A.hash, None, [])


def test_what_does_not_follow_is_never_signed() -> None:
    _, effects = feed(state(), proposal(A), Checked(A.hash, False), ballot(THIRD, A, "prepare"))
    _, more = feed(state(), proposal(A), Checked(A.hash, False), *(ballot(n, A, "prepare") for n in NAMES))
    assert votes(effects) == votes(more) == []


@pytest.mark.parametrize(
    "wrong",
    [proposal(A, node=THIRD), proposal(A, view=4), proposal(record("a", 1)), proposal(record("a", 0, "f" * 64))],
    ids=["not on duty", "another view", "another height", "another chain"],
)
def test_only_the_holder_of_the_duty_proposes_what_is_next(wrong: Proposal) -> None:
    _, effects = feed(state(), wrong)
    assert effects == []


def test_a_second_record_in_one_view_is_not_signed_but_proves_the_holder_a_liar() -> None:
    now, _ = feed(state(), proposal(A), Checked(A.hash, True))
    now, effects = feed(now, proposal(B), Checked(B.hash, True))
    assert votes(effects) == []
    [proven] = [effect.message for effect in effects if isinstance(effect, Say) and isinstance(effect.message, Proven)]
    assert [proof.signer for proof in proven.proofs] == [HOLDER]
    assert now.excluded == {HOLDER}
    assert now.view == 1, "its duty is over at once"
    assert now.needed == 2


def test_what_another_was_given_proves_it_too() -> None:
    """The holder gave us one record and somebody else another: that one's vote shows it."""
    now, _ = feed(state(), proposal(A), ballot(THIRD, B, "prepare"))
    assert now.excluded == {HOLDER}
    assert THIRD not in now.excluded


def locked() -> voting.State:
    """Locked on A in view 0, and come to view 1 with two others."""
    me = state(THIRD)
    now, _ = feed(me, proposal(A), Checked(A.hash, True), *(ballot(n, A, "prepare") for n in (THIRD, ME, HOLDER)))
    assert now.kept.lock is not None
    now, _ = feed(now, *(Standing("standing", node, 1, 0) for node in (ME, LAST)))
    assert now.view == 1
    return now


def test_a_lock_holds_against_every_record_that_was_not_prepared_later() -> None:
    now, effects = feed(locked(), proposal(B, 1, ME), Checked(B.hash, True))
    assert votes(effects) == []
    older = SignedRecord(B, 1, ("x", "y", "z"))
    _, effects = feed(locked(), proposal(B, 1, ME, older), Checked(B.hash, True))
    assert votes(effects) == [], "not prepared in an earlier view than this one"
    assert now.kept.lock is not None
    _, effects = feed(locked(), proposal(A, 1, ME))
    assert votes(effects) == [("prepare", A.hash)], "the same record again is welcome"


def test_a_lock_gives_way_to_one_of_a_later_view() -> None:
    later = SignedRecord(B, 1, ("x", "y", "z"))
    now, _ = feed(locked(), *(Standing("standing", node, 3, 0) for node in (ME, LAST)))
    holder = now.rules.holder(3)
    now, effects = feed(now, proposal(B, 3, holder, later), Checked(B.hash, True))
    assert votes(effects) == [("prepare", B.hash)]


def test_who_comes_on_duty_proposes_what_may_have_been_certified() -> None:
    lock = SignedRecord(A, 0, ("x", "y", "z"))
    wanted = Wanted(B)
    now, effects = feed(state(), wanted, *(Standing("standing", node, 1, 0, lock) for node in (THIRD, LAST)))
    assert voting.on_duty(now)
    assert Check(A) in effects
    _, effects = feed(now, Checked(A.hash, True))
    [said] = [effect.message for effect in effects if isinstance(effect, Say)]
    assert isinstance(said, Proposal)
    assert said.basis == lock


def test_a_restart_keeps_every_promise() -> None:
    now = locked()
    again = quorum.restore(now.rules, now.kept, 0, GENESIS, 5.0)
    assert (again.view, again.kept.lock) == (1, now.kept.lock)
    _, effects = feed(again, proposal(B, 1, ME), Checked(B.hash, True))
    assert votes(effects) == []


def test_a_holder_that_has_forgotten_what_it_proposed_gives_up_its_duty() -> None:
    standings = [Standing("standing", node, 0, 0) for node in (ME, THIRD, LAST)]
    now, effects = feed(state(HOLDER), *standings, Wanted(A))
    assert any(isinstance(effect, Say) and isinstance(effect.message, Proposal) for effect in effects)
    again = quorum.restore(now.rules, now.kept, 0, GENESIS, 5.0)
    again, effects = feed(again, *standings, Wanted(B), Tick(), now=5.5)
    assert again.view == 1
    assert not any(isinstance(effect, Say) and isinstance(effect.message, Proposal) for effect in effects)


def test_the_duty_moves_on_when_its_holder_is_silent_or_stuck() -> None:
    others = [Standing("standing", node, 0, 0) for node in (THIRD, LAST)]
    quiet, _ = feed(state(), *others, Tick(), now=9.0)
    assert quiet.view == 0
    quiet, _ = feed(quiet, Tick(), now=11.0)
    assert quiet.view == 1
    stuck, _ = feed(state(), *others, proposal(A), now=1.0)
    for second in range(2, 32):
        stuck, _ = feed(stuck, Standing("standing", HOLDER, 0, 0), Tick(), now=float(second))
    assert stuck.view == 0
    stuck, _ = feed(stuck, Tick(), now=32.0)
    assert stuck.view == 1


def heard(now: voting.State, *, until_s: int, after_s: int) -> voting.State:
    """Every second all are heard, the holder too."""
    for second in range(after_s + 1, until_s + 1):
        standings = [Standing("standing", node, now.view, now.height) for node in (HOLDER, THIRD, LAST)]
        now, _ = feed(now, *standings, Tick(), now=float(second))
    return now


def test_a_holder_that_is_heard_and_gives_nothing_loses_its_duty() -> None:
    """The next one has twice as long, should the first not be to blame."""
    idle, _ = feed(state(), Expected("record", 60.0), now=0.0)
    idle = heard(idle, after_s=0, until_s=60)
    assert idle.view == 0
    idle = heard(idle, after_s=60, until_s=61)
    assert idle.view == 1
    assert heard(idle, after_s=61, until_s=61 + 120).view == 1
    assert heard(idle, after_s=61, until_s=61 + 121).view == 2


def test_other_records_do_not_stand_in_for_a_verdict() -> None:
    busy, _ = feed(state(), Expected("record", 60.0), Expected("verdict", 100.0), now=0.0)
    for height in (1, 2, 3):
        busy = heard(busy, after_s=25 * (height - 1), until_s=25 * height)
        busy, _ = feed(busy, Advanced(height, A.hash, 0), Expected("record", 60.0), now=25.0 * height)
    assert heard(busy, after_s=75, until_s=100).view == 0
    assert heard(busy, after_s=75, until_s=101).view == 1
    judged, _ = feed(busy, Expected("verdict", float("inf")), now=76.0)
    assert heard(judged, after_s=76, until_s=135).view == 0


def test_a_new_holder_has_its_own_time_for_a_verdict() -> None:
    """Also where the others learn of its view by a record that it has had certified."""
    late, _ = feed(state(), Expected("verdict", 100.0), now=0.0)
    late, _ = feed(heard(late, after_s=0, until_s=90), Advanced(1, A.hash, 1), now=90.0)
    assert late.view == 1
    assert heard(late, after_s=90, until_s=190).view == 1
    assert heard(late, after_s=90, until_s=191).view == 2


def test_what_takes_long_to_check_is_not_stuck_meanwhile() -> None:
    """Neither here nor at its proposer, and the round's clock stands still for it. Who finds it false waits no more."""
    now, _ = feed(state(), Expected("record", 60.0), proposal(A), Checking(A.hash, 100.0), now=0.0)
    assert heard(now, after_s=0, until_s=130).view == 0
    assert heard(now, after_s=0, until_s=131).view == 1
    found, _ = feed(heard(now, after_s=0, until_s=50), Checked(A.hash, False), Tick(), now=51.0)
    assert found.view == 1
    mine = [Standing("standing", node, 0, 0) for node in (ME, THIRD, LAST)]
    proposer, effects = feed(state(HOLDER), *mine, Wanted(A, 100.0), now=0.0)
    assert any(isinstance(effect, Say) and isinstance(effect.message, Proposal) for effect in effects)
    assert feed(proposer, Tick(), now=130.0)[0].view == 0
    assert feed(proposer, Tick(), now=131.0)[0].view == 1


def test_who_is_alone_in_its_view_does_not_run_away() -> None:
    now, _ = feed(state(), Tick(), now=1_000.0)
    assert now.view == 0


def test_who_lags_behind_is_supplied() -> None:
    now, _ = feed(state(HOLDER), Advanced(5, A.hash, 0))
    _, effects = feed(now, Standing("standing", LAST, 0, 2))
    assert effects == [Supply(LAST, 2)]


def test_the_only_verifier_of_a_network_signs_once_and_is_done() -> None:
    one = Verifiers((ME,), 1)
    now = quorum.restore(voting.Rules(JOB, ME, one), voting.Kept(), 0, GENESIS, 0.0)
    now, effects = feed(now, Wanted(A))
    [said] = effects
    assert isinstance(said, Say)
    assert isinstance(said.message, Ballot)
    assert said.message.vote.phase == "certify"
    _, effects = feed(now, replace(said.message, signature="x"))
    assert effects == [Certified(SignedRecord(A, 0, ("x",)))]
