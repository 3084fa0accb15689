"""What a follower repeats before it signs that work was accepted or could not be decided, and what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import comb

import pytest
from round_actors import ALICE, BOB, BODIES, JOB

from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.effects import Replay
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Evidence, Judged, Outcome, Verdict
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_verifier.repeats import Repeats, own_draw, share_ppm

OPEN, SEAL, ASSIGN, VERDICT = BODIES[1], BODIES[2], BODIES[3], BODIES[6]
assert isinstance(OPEN, Open)
assert isinstance(SEAL, Seal)
assert isinstance(ASSIGN, Assign)
assert isinstance(VERDICT, Verdict)


class Replays:
    """What replays find here, in order; the last one again and again."""

    def __init__(self, *outcomes: Outcome | Exception, evidence: Evidence = "exact") -> None:
        self.outcomes, self.evidence = list(outcomes), evidence
        self.asked: list[Replay] = []
        self.asked_again = asyncio.Event()

    async def __call__(self, effect: Replay) -> Replayed:
        if self.asked:
            self.asked_again.set()
        self.asked.append(effect)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        evidence = "none" if outcome == "void" else self.evidence
        return Replayed(effect.open.round, effect.slot, outcome, evidence, "as found", effect.again)


def repeats(replays: Replays, *, drawn: bool = False) -> Repeats:
    return Repeats(replays, lambda _, __: drawn, pause_s=0.0)


def verdict(outcome: Outcome, evidence: Evidence = "exact") -> Verdict:
    return replace(VERDICT, judged=(Judged(0, ALICE, outcome, evidence, "said"),))


def proven(*nodes: str) -> Callable[[str], bool]:
    return lambda node: node in nodes


async def test_false_admissions_are_signed_by_nobody() -> None:
    """However the draw falls: who is proven by it would be paid and averaged from then on."""
    replays = Replays("rejected")
    with pytest.raises(RefusedError, match="slot 0 of round 0 is accepted, and rejected here"):
        await repeats(replays).admitted(OPEN, SEAL, ASSIGN)
    assert [effect.again for effect in replays.asked] == [False, True], "two looks, in a fresh process the second time"
    for outcomes in (("accepted",), ("void",), ("rejected", "accepted")):
        await repeats(Replays(*outcomes)).admitted(OPEN, SEAL, ASSIGN)


async def test_the_work_of_proven_members_is_not_held_up_before_the_exchange() -> None:
    members = tuple(replace(member, proven=True) for member in OPEN.members)
    await repeats(Replays("rejected"), drawn=True).admitted(replace(OPEN, members=members), SEAL, ASSIGN)


@pytest.mark.parametrize("evidence", ["exact", "tolerant"])
async def test_a_false_acceptance_that_the_own_draw_names_is_not_signed(evidence: Evidence) -> None:
    said, known = verdict("accepted", evidence), proven(ALICE)
    with pytest.raises(RefusedError, match="is accepted, and rejected here"):
        await repeats(Replays("rejected"), drawn=True).judged(OPEN, SEAL, said, known)
    await repeats(Replays("accepted"), drawn=True).judged(OPEN, SEAL, said, known)
    passed_by = Replays("rejected")
    await repeats(passed_by).judged(OPEN, SEAL, said, known)
    assert not passed_by.asked


async def test_what_proves_a_newcomer_is_repeated_by_everybody() -> None:
    with pytest.raises(RefusedError):
        await repeats(Replays("rejected")).judged(OPEN, SEAL, verdict("accepted"), proven(BOB))


async def test_void_work_that_can_be_decided_here_is_not_signed_away() -> None:
    for found in ("accepted", "rejected"):
        with pytest.raises(RefusedError, match=f"is void, and {found} here"):
            await repeats(Replays(found), drawn=True).judged(OPEN, SEAL, verdict("void", "none"), proven(ALICE))


@pytest.mark.parametrize("replays", [Replays("void"), Replays("accepted", evidence="tolerant")])
async def test_what_hangs_on_the_worker_stops_no_verdict(replays: Replays) -> None:
    """A worker that opens its states to one verifier and not to another would hold up the job for ever."""
    await repeats(replays, drawn=True).judged(OPEN, SEAL, verdict("void", "none"), proven(ALICE))


@pytest.mark.parametrize("said", [verdict("accepted", "admission"), verdict("accepted", "none"), verdict("rejected")])
async def test_nothing_else_is_repeated(said: Verdict) -> None:
    """Admissions were repeated before the exchange, and rejections are repeated by their proofs."""
    replays = Replays("accepted")
    await repeats(replays, drawn=True).judged(OPEN, SEAL, said, proven())
    assert not replays.asked


async def test_work_is_looked_at_once_and_as_long_as_it_takes() -> None:
    replays = Replays(UnreachableError("not yet"), UnreachableError("not yet"), "accepted")
    both = repeats(replays, drawn=True)
    await both.look(Replay(OPEN, SEAL, 0, again=False))
    await both.judged(OPEN, SEAL, verdict("accepted"), proven(ALICE))
    assert len(replays.asked) == 3


async def test_a_look_ends_when_its_round_is_judged() -> None:
    """A verifier that was away catches up with rounds whose states nobody keeps any more: it would ask for ever."""
    replays = Replays(UnreachableError("no peer is left that can give the state"))
    one = repeats(replays, drawn=True)
    look = asyncio.create_task(one.look(Replay(OPEN, SEAL, 0, again=False)))
    await asyncio.wait_for(replays.asked_again.wait(), 60)
    assert not look.done()
    await asyncio.to_thread(one.forget, 0)
    async with asyncio.timeout(60):
        with pytest.raises(RefusedError, match="was judged before"):
            await look
    asked = len(replays.asked)
    with pytest.raises(RefusedError, match="is judged"):
        await one.look(Replay(OPEN, SEAL, 0, again=False))
    assert len(replays.asked) == asked


async def test_a_look_that_has_failed_is_taken_again() -> None:
    both = repeats(Replays(RefusedError("no state"), "accepted"))
    with pytest.raises(RefusedError, match="no state"):
        await both.look(Replay(OPEN, SEAL, 0, again=False))
    assert (await both.look(Replay(OPEN, SEAL, 0, again=False))).outcome == "accepted"


@pytest.mark.parametrize(
    ("verifiers", "quorum", "share", "stopped_percent"),
    [
        (1, 1, 0, 0),
        (3, 2, 1_000_000, 100),
        (4, 3, 666_667, 74),
        (5, 4, 500_000, 69),
        (7, 4, 666_667, 68),
        (7, 5, 500_000, 66),
    ],
)
def test_as_many_repeat_work_as_it_takes_to_stop_a_record(
    verifiers: int, quorum: int, share: int, stopped_percent: int
) -> None:
    """The figures of docs/design.md: how often a false acceptance is stopped while all others are honest and there."""
    assert share_ppm(Verifiers(tuple(str(number) for number in range(verifiers)), quorum)) == share
    others, stop, chance = verifiers - 1, verifiers - quorum + 1, share / 1e6
    stopped = sum(comb(others, k) * chance**k * (1 - chance) ** (others - k) for k in range(stop, others + 1))
    assert round(100 * stopped) == stopped_percent


def test_each_has_its_own_draw_and_keeps_to_it() -> None:
    draws = [own_draw(bytes([number]) * 32, JOB, 666_667) for number in range(3)]
    named = [[draw(round_, slot) for round_ in range(100) for slot in range(10)] for draw in draws]
    assert named == [[draw(round_, slot) for round_ in range(100) for slot in range(10)] for draw in draws]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        agree = sum(a == b for a, b in zip(named[first], named[second], strict=True))
        assert 450 < agree < 660, "5 of 9, as independent draws agree"
    assert all(600 < sum(one) < 730 for one in named)
    assert not any(own_draw(b"k" * 32, JOB, 0)(round_, 0) for round_ in range(100))
    assert all(own_draw(b"k" * 32, JOB, 1_000_000)(round_, 0) for round_ in range(100))
