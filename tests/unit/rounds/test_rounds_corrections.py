"""Forward corrections: what a round is without a fraud, what follows from it, and which corrections are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from round_actors import ALICE, BOB, JOB, PEER_ID, SIGNATURE, chain_of, signed

from anynode.rounds import coordinator, member
from anynode.rounds.absorbing import absorb
from anynode.rounds.corrections import (
    History,
    OuterStep,
    complaint,
    given_back,
    outcome,
    refusal,
    run_to,
    slots_by_round,
    totals,
)
from anynode.rounds.course import Assign, Begin, ChunkResult, Close, Committed, Member, Open, Result, Seal
from anynode.rounds.effects import Append, FetchState, MakeCorrection
from anynode.rounds.events import Corrected, Excise, Failed, RecordsArrived, Tick
from anynode.rounds.judgements import CORRECTION_ROUNDS_MAX, Correct, CorrectedRound, Excision, Judged, Ruling, Verdict
from anynode.rounds.packing import pack, unpack
from anynode.rounds.records import Body, Record
from anynode.rounds.retention import COORDINATOR, footprints, needed
from anynode.rounds.roster import Roster

NODES = (ALICE, BOB)
RULES = coordinator.Rules(
    job=JOB,
    state_root="0" * 64,
    rounds=100,
    inner_steps_min=4,
    inner_steps_max=4,
    newcomer_steps=4,
    batch_size=2,
    refresh_rounds=2,
    chunks=2,
    chunks_on_refresh=2,
    audit_key=b"k" * 32,
)


def digest(*parts: int) -> str:
    return "".join(f"{part:04x}" for part in parts).ljust(64, "0")


def bodies_of(number: int, senders: tuple[tuple[int, ...], ...], judged: bool = True) -> list[Body]:
    """A round of Alice in slot 0 (4 steps) and Bob in slot 1 (2 of 4 steps), two chunks averaged from ``senders``."""
    base = 16 * number
    members = tuple(Member(slot, node, PEER_ID, "class", 4, True, True, False, "") for slot, node in enumerate(NODES))
    steps = (4, 2)
    commitments = tuple(
        Committed(slot, node, steps[slot], 2 * steps[slot], 2, "3" * 64, "4" * 64, "class", "1", 0, SIGNATURE)
        for slot, node in enumerate(NODES)
    )
    ranges = (((base, base + 8),), ((base + 8, base + 16),))
    opened = Open("open", number, digest(number), "0x", number % 2 == 0, members, ranges, base + 16, (), 4, 20, 10)
    chunks = tuple(ChunkResult(chunk, 0, 0, who, digest(9, number, chunk)) for chunk, who in enumerate(senders))
    returned = () if all(1 in who for who in senders) else ((base + 8, base + 16),)
    verdict = Verdict(
        "verdict",
        number,
        "7" * 64,
        "0x",
        tuple(Judged(slot, node, "accepted", "none", "not drawn") for slot, node in enumerate(NODES)),
        (),
        (),
        (),
    )
    return [
        opened,
        Seal("seal", number, commitments, (), "5" * 64, 7, (1_000_000, 1_000_000), ALICE, ()),
        Assign("assign", number, 0, (0, 1), (), (), (), (), ()),
        Result("result", number, chunks, (), 3, base + 16, returned),
        Close("close", number, digest(number + 1), (), ()),
        *([verdict] if judged else []),
    ]


BOTH = (0, 1), (0, 1)


def chain(*rounds: tuple[tuple[int, ...], ...]) -> list[Record]:
    bodies: list[Body] = [Begin("begin", 3, digest(0))]
    for number, senders in enumerate(rounds):
        bodies += bodies_of(number, senders)
    return chain_of(*bodies)


def excision(round_: int, slot: int = 1) -> Excision:
    return Excision(round_, slot, NODES[slot], "its update differs")


def correction(history: History, *excised: Excision) -> Correct:
    """A correction as an honest verifier would make it."""
    rounds = []
    for number, slots in slots_by_round(excised).items():
        senders, steps = outcome(history.rounds[number], slots)
        rounds.append(CorrectedRound(number, tuple(digest(8, number, chunk) for chunk in range(len(senders))), steps))
    total = totals(history, excised, rounds)
    return Correct(
        kind="correct",
        round=history.number,
        excised=excised,
        rounds=tuple(rounds),
        state_root=digest(0xABC, history.number),
        steps=total.steps,
        returned=total.returned,
        has_moments=total.has_moments,
    )


def after(records: list[Record], body: Body) -> list[Record]:
    return [*records, Record(JOB, len(records), records[-1].hash, body)]


# --- what a round is without a fraud ------------------------------------------------------------------------------


def test_what_is_left_is_counted_again() -> None:
    """Without Bob the round's steps are Alice's, and his samples go back to the pool; the rest of his were there."""
    history = History.of(chain(BOTH, BOTH))
    past = history.rounds[1]
    assert outcome(past, frozenset({1})) == (((0,), (0,)), 4)
    assert given_back(past, frozenset({1})) == ((24, 28),)
    body = correction(history, excision(1))
    assert (body.round, body.steps, body.returned, body.has_moments) == (2, 3 + 4, ((24, 28),), True)
    assert complaint(history, body) == ""


def test_a_round_that_loses_the_only_sender_of_a_chunk_is_void() -> None:
    """Then nothing of it counts: its steps, its moments, and the samples of everybody in it."""
    history = History.of(chain(((0, 1), (1,)), BOTH))
    past = history.rounds[0]
    assert outcome(past, frozenset({1})) == ((), 0)
    assert given_back(past, frozenset({1})) == ((0, 8), (8, 12))
    body = correction(history, excision(0))
    assert body.rounds[0] == CorrectedRound(0, (), 0)
    assert (body.steps, body.has_moments) == (3, False)


# --- from which state, by which steps -----------------------------------------------------------------------------


def test_outer_steps_are_taken_again_from_the_newest_state_before_the_fraud() -> None:
    records = chain(BOTH, BOTH, BOTH)
    history = History.of(records)
    body = correction(history, excision(1))
    changed = {item.round: item for item in body.rounds}
    run = run_to(history, 3, lambda _: True, changed)
    assert run is not None
    assert run.start_root == digest(1), "the state that round 1 opened from"
    assert run.steps == (
        OuterStep((digest(8, 1, 0), digest(8, 1, 1)), False, 4),
        OuterStep((digest(9, 2, 0), digest(9, 2, 1)), True, 3),
    )
    kept = run_to(history, 3, {digest(0)}.__contains__, changed)
    assert kept is not None and (kept.start_root, len(kept.steps)) == (digest(0), 3)
    assert run_to(history, 3, lambda _: False, changed) is None


def test_a_second_correction_builds_on_the_first() -> None:
    """States between a fraud and its correction hold the fraud: nothing may begin there any more."""
    records = chain(BOTH, BOTH, BOTH)
    first = correction(History.of(records), excision(0))
    records = after(records, first)
    records += [Record(JOB, len(records) + place, digest(place), body) for place, body in enumerate(bodies_of(4, BOTH))]
    history = History.of(records)
    assert history.rounds[0].excised == {1}
    assert [history.root_stands(number) for number in range(6)] == [True, False, False, False, True, True]
    second = correction(history, excision(2))
    run = run_to(history, 5, lambda _: True, {item.round: item for item in second.rounds})
    assert run is not None and run.start_root == digest(0)
    assert [step.results[0] for step in run.steps] == [digest(8, 0), digest(9, 1), digest(8, 2), digest(9, 4)]
    assert complaint(history, second) == ""
    again = refusal(history, 0, 1)
    assert "nothing to take out" in again


# --- what is refused ----------------------------------------------------------------------------------------------


def test_what_cannot_be_excised_is_told_in_a_sentence() -> None:
    history = History.of(chain(BOTH, ((0,), (0,))))
    assert "has not closed" in refusal(history, 2, 0)
    assert "no part in the average" in refusal(history, 1, 1)
    assert refusal(history, 0, 1) == ""
    unjudged = History.of(chain_of(Begin("begin", 3, digest(0)), *bodies_of(0, BOTH, judged=False)))
    assert "not in yet" in refusal(unjudged, 0, 1)
    old = History.of(chain(*[BOTH] * (CORRECTION_ROUNDS_MAX + 2)))
    assert "no longer kept" in refusal(old, 1, 1)
    assert refusal(old, 2, 1) == ""


TAMPERINGS: dict[str, tuple[Callable[[Correct], Correct], str]] = {
    "another number": (lambda body: replace(body, round=5), "next number"),
    "nothing": (lambda body: replace(body, excised=(), rounds=()), "next number"),
    "twice": (lambda body: replace(body, excised=body.excised * 2), "in order"),
    "who is not in it": (lambda body: replace(body, excised=(replace(excision(1), slot=7),)), "cannot be"),
    "another's node": (lambda body: replace(body, excised=(replace(excision(0), node=ALICE),)), "another node"),
    "a round too few": (lambda body: replace(body, rounds=()), "other rounds"),
    "a chunk too few": (
        lambda body: replace(body, rounds=(replace(body.rounds[0], results=body.rounds[0].results[:1]),)),
        "other chunks or steps",
    ),
    "other steps": (lambda body: replace(body, rounds=(replace(body.rounds[0], steps=3),)), "other chunks or steps"),
    "another chunk": (
        lambda body: replace(body, rounds=(replace(body.rounds[0], results=(digest(1), digest(2))),)),
        "in which nothing was excised",
    ),
    "other totals": (lambda body: replace(body, steps=body.steps + 1), "other steps or samples"),
    "lost samples": (lambda body: replace(body, returned=()), "other steps or samples"),
    "moments": (lambda body: replace(body, has_moments=False), "other steps or samples"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_correction_that_does_not_follow_is_found_out(name: str) -> None:
    """Bob is in the first chunk of round 0 only, so the second must stay."""
    history = History.of(chain(((0, 1), (0,)), BOTH))
    body = correction(history, excision(0))
    kept = replace(body.rounds[0], results=(body.rounds[0].results[0], digest(9, 0, 1)))
    honest = replace(body, rounds=(kept,))
    assert complaint(history, honest) == ""
    edit, words = TAMPERINGS[name]
    assert words in complaint(history, edit(honest))


# --- the cores ------------------------------------------------------------------------------------------------------


def waiting() -> tuple[coordinator.State, list[Record]]:
    records = chain(BOTH)
    return coordinator.restore(RULES, records, 0.0), records


def test_a_coordinator_asks_for_the_state_and_records_it_in_the_place_of_a_round() -> None:
    state, records = waiting()
    body = correction(History.of(records), excision(0))
    state, effects = coordinator.apply(state, Excise(body.excised, body.rounds), 1.0)
    assert effects == [MakeCorrection(1, body.excised, body.rounds)]
    state, effects = coordinator.apply(state, Tick(), 2.0)
    assert effects == [], "it is asked for once"
    state, effects = coordinator.apply(state, Corrected(body), 3.0)
    assert [effect.record.body for effect in effects if isinstance(effect, Append)] == [body]
    assert (state.round, state.state_root, state.steps, state.returned) == (2, body.state_root, 4, ((8, 12),))
    assert state.nodes[BOB].banned == "its update differs"
    assert state.excise is None and state.corrected is None
    again = coordinator.restore(RULES, after(records, body), 9.0)
    assert (again.round, again.state_root, again.nodes[BOB].banned) == (2, body.state_root, "its update differs")


def test_a_correction_that_fails_is_given_up_and_may_be_asked_for_again() -> None:
    state, records = waiting()
    body = correction(History.of(records), excision(0))
    asked = Excise(body.excised, body.rounds)
    state, _ = coordinator.apply(state, asked, 1.0)
    state, effects = coordinator.apply(state, Failed("correct 1"), 2.0)
    assert state.excise is None and effects == []
    state, _ = coordinator.apply(state, Corrected(body), 3.0)
    assert state.round == 1, "nobody waits for it any more"
    _, effects = coordinator.apply(state, asked, 4.0)
    assert effects == [MakeCorrection(1, body.excised, body.rounds)]


def test_a_fraud_that_has_become_too_old_while_a_round_went_on_is_left_in() -> None:
    state = coordinator.restore(RULES, chain(*[BOTH] * (CORRECTION_ROUNDS_MAX + 1)), 0.0)
    state, effects = coordinator.apply(state, Excise((excision(0),), (CorrectedRound(0, (), 0),)), 1.0)
    assert state.excise is None and not any(isinstance(effect, MakeCorrection) for effect in effects)


def test_members_fetch_the_corrected_state_and_who_was_taken_out_is_told_why() -> None:
    records = chain(BOTH)
    records = after(records, correction(History.of(records), excision(0)))
    for node, refused in ((ALICE, ""), (BOB, "its update differs")):
        me = member.Self(JOB, node, PEER_ID, "class", "1")
        state, effects = member.apply(
            member.State(me, held_round=1, held_root=digest(1)), RecordsArrived(tuple(records)), 1.0
        )
        assert state.refused == refused
        assert FetchState(2, digest(0xABC, 1)) in effects


# --- beside appeals -------------------------------------------------------------------------------------------------


def rejected(records: list[Record]) -> list[Record]:
    """The chain in which the last verdict rejects Bob's work."""
    verdict = records[-1].body
    assert isinstance(verdict, Verdict)
    judged = (verdict.judged[0], replace(verdict.judged[1], outcome="rejected", evidence="exact", proof="ab" * 32))
    return after(records[:-1], replace(verdict, judged=judged))


def ruling(*, granted: bool) -> Ruling:
    return Ruling("ruling", 0, 1, BOB, SIGNATURE, True, granted, "replayed again", ALICE if granted else "")


def test_an_appeal_that_is_granted_stops_the_correction_that_waits() -> None:
    records = rejected(chain(BOTH))
    body = correction(History.of(records), excision(0))
    for granted in (True, False):
        state = coordinator.restore(RULES, records, 0.0)
        state, _ = coordinator.apply(state, Excise(body.excised, body.rounds), 1.0)
        state = absorb(state, after(records, ruling(granted=granted))[-1], 2.0)
        assert (state.excise is None) is granted
        state, effects = coordinator.apply(state, Corrected(body), 3.0)
        assert any(isinstance(effect, Append) for effect in effects) is not granted


def test_work_that_was_cleared_before_it_was_taken_out_is_excluded_for_good() -> None:
    """Its appeal is used up, so what takes it out is a proof of its own; before that, an appeal may be granted."""
    accused = rejected(chain(BOTH))
    for records, final in ((accused, False), (after(accused, ruling(granted=True)), True)):
        body = correction(History.of(records), excision(0))
        state = coordinator.restore(RULES, after(records, body), 0.0)
        assert state.nodes[BOB].banned and state.nodes[BOB].standing.final is final


def test_what_an_appeal_clears_after_it_was_taken_out_stays_out_and_is_named() -> None:
    records = rejected(chain(BOTH))
    records = after(records, correction(History.of(records), excision(0)))
    history = History.of(after(records, ruling(granted=True)))
    assert history.cleared == {(0, 1)} and history.rounds[0].excised == {1}
    assert history.fork().cleared is not history.cleared
    assert not History.of(after(records, ruling(granted=False))).cleared


# --- on the wire and on the disk ------------------------------------------------------------------------------------


def test_a_correction_travels_and_its_results_are_kept_for_good() -> None:
    records = chain(BOTH)
    body = correction(History.of(records), excision(0))
    records = after(records, body)
    run = tuple(signed(record) for record in records)
    assert unpack(pack(run, Roster(records)), Roster()) == run
    kept = needed(footprints(records), COORDINATOR)
    assert kept.results.issuperset(body.rounds[0].results) and body.state_root in kept.states
