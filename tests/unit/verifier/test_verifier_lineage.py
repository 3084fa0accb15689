"""The auditor's reading of a record chain: what is genuine is followed to its end, and what is not is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from signed_world import DOMAIN, SignedWorld, key, make_job, sign_record
from tampering import (
    at,
    judgement,
    newcomer,
    rechain,
    with_body,
)
from world_cast import START_ROOT, Weather

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.course import Assign, Close, Open
from anynode.rounds.judgements import Verdict
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.lineage import follow
from anynode_verifier.rework import to_repeat, withheld
from anynode_verifier.sampling import drawn_of

# --- what is genuine ------------------------------------------------------------------------------------------------


def test_a_genuine_chain_is_followed(grown: SignedWorld) -> None:
    lineage = follow(grown.records, grown.job, DOMAIN)
    assert lineage.start_root == START_ROOT
    assert [round_.open.round for round_ in lineage.rounds.values()] == list(range(5))
    assert sorted(lineage.verdicts) == list(range(5))
    assert {round_.close.state_root for round_ in lineage.rounds.values()} == {
        next(iter(r)) for r in grown.applied.values()
    }


def test_the_chain_that_is_tampered_with_below_has_everything(grown: SignedWorld) -> None:
    """A newcomer rejected before the exchange, weightless newcomers, one of them found out, and its next work."""
    assigns = {r.body.round: r.body for r in grown.records if isinstance(r.body, Assign)}
    verdicts = {r.body.round: r.body for r in grown.records if isinstance(r.body, Verdict)}
    assert [item.slot for item in assigns[0].rejected] == [2]
    assert assigns[1].weightless == (1, 2, 4)
    assert [item.slot for item in verdicts[1].judged if not item.accepted] == [2]
    assert [item.slot for item in assigns[2].rejected] == [2]
    assert any(not item.audited for item in verdicts[4].judged)


def test_work_of_a_node_excluded_meanwhile_is_told_from_work_that_was_judged(grown: SignedWorld) -> None:
    """Nobody replayed it, so an auditor who finds it honest has found no fault."""
    rounds = follow(grown.records, grown.job, DOMAIN).rounds
    assert rounds[0].ended == frozenset()
    assert rounds[2].ended == {2}


@pytest.mark.parametrize("seed", range(20))
def test_chains_of_stormy_schedules_are_followed(seed: int) -> None:
    """Crashes, loss and void rounds never make a coordinator sign what an auditor refuses."""
    weather = Weather(
        loss=(0.0, 0.1, 0.3)[seed % 3],
        duplicate=0.1,
        delay_s_max=(0.05, 3.0)[seed % 2],
        failure=0.1,
        crashes=seed % 6,
        until_s=40.0,
    )
    late = ((), (False,), (True, False))[seed % 3]
    world = SignedWorld(make_job(), seed, 1 + seed % 4, weather=weather, cheats=int(seed % 4 == 3), late=late)
    world.run(3_000.0)
    assert world.finished(), f"the job of seed {seed} did not finish"
    lineage = follow(world.records, world.job, DOMAIN)
    assert len(lineage.rounds) == 4, f"seed {seed}"
    verify(world.signed, world.job.job_id, DOMAIN, Verifiers((key("coordinator").address,), 1))


def test_what_an_auditor_repeats_is_what_verdicts_say(grown: SignedWorld) -> None:
    """Work rejected in an audit must differ, as that rejected before the exchange; the rest proves nothing."""
    lineage = follow(grown.records, grown.job, DOMAIN)
    before, after, ended = list(lineage.rounds.values())[:3]
    assert to_repeat(before, lineage.verdicts[0])[2] == "rejected"
    assert to_repeat(after, lineage.verdicts[1])[2] == "rejected"
    assert 2 not in to_repeat(after, None), "a newcomer's work without its verdict"
    assert 2 not in to_repeat(ended, lineage.verdicts[2])
    verdict = judgement(0, outcome="void")(judgement(1, evidence="tolerant")(lineage.verdicts[1]))
    assert not {0, 1} & to_repeat(after, verdict).keys()


def test_every_prefix_of_a_chain_is_followed(grown: SignedWorld) -> None:
    for length in range(len(grown.records)):
        closed = sum(isinstance(record.body, Close) for record in grown.records[:length])
        assert len(follow(grown.records[:length], grown.job, DOMAIN).rounds) == closed


# --- what is not ----------------------------------------------------------------------------------------------------


def test_without_its_secret_the_block_alone_draws_and_that_is_told(grown: SignedWorld) -> None:
    """A coordinator that withholds the secret, to keep a friend from being drawn, gains no choice by it."""
    place = at(grown.records, Verdict, 1)
    round_ = follow(grown.records, grown.job, DOMAIN).rounds[1]
    body = grown.records[place].body
    assert isinstance(body, Verdict)
    drawn = drawn_of(round_.seal, "", body.block_hash) | set(round_.assign.weightless)
    judged = tuple(replace(item, evidence="exact" if item.slot in drawn else "none") for item in body.judged)
    changed = with_body(list(grown.records), place, replace(body, secret="", judged=judged))
    assert withheld(follow(rechain(changed), grown.job, DOMAIN)) == (1,)
    lineage = follow(grown.records, grown.job, DOMAIN)
    assert withheld(lineage) == ()
    del lineage.verdicts[2]
    assert withheld(lineage) == (), "its verdict may wait for a reducer, while later ones are in"
    with pytest.raises(RefusedError, match="otherwise than the draw says"):
        follow(rechain(with_body(list(grown.records), place, replace(body, secret=""))), grown.job, DOMAIN)


def test_signatures_of_another_network_or_job_are_refused(grown: SignedWorld) -> None:
    with pytest.raises(RefusedError, match="not signed by"):
        follow(grown.records, grown.job, SigningDomain(1, DOMAIN.registry))
    with pytest.raises(RefusedError, match="not signed by"):
        follow(grown.records, grown.job, SigningDomain(DOMAIN.chain_id, f"0x{903:040d}"))
    with pytest.raises(RefusedError, match="deals other samples"):
        follow(grown.records, make_job("another", rounds=5), DOMAIN)


def test_more_rounds_than_the_job_has_are_refused(grown: SignedWorld) -> None:
    with pytest.raises(RefusedError):
        follow(grown.records, make_job(rounds=4), DOMAIN)


def test_an_excluded_node_gets_no_further_place(grown: SignedWorld) -> None:
    """The cheat of round 0 is put back into the next round in the place of a newcomer."""
    opened = grown.records[at(grown.records, Open, 0)].body
    assert isinstance(opened, Open)
    cheat = opened.members[2].node
    place = at(grown.records, Open, 1)
    body = grown.records[place].body
    assert isinstance(body, Open)
    changed = with_body(list(grown.records), place, newcomer(node=cheat)(body))
    with pytest.raises(RefusedError, match="excluded node"):
        follow(changed, grown.job, DOMAIN)


def test_a_tampered_chain_does_not_even_verify(grown: SignedWorld) -> None:
    """Without the coordinator's help the signatures and hashes of the chain give it away first."""
    verifiers = Verifiers((key("coordinator").address,), 1)
    signed = grown.signed
    place = at(grown.records, Verdict, 1)
    body = grown.records[place].body
    assert isinstance(body, Verdict)
    forged = replace(grown.records[place], body=judgement(2, outcome="accepted")(body))
    with pytest.raises(RefusedError, match="not signed by enough verifiers"):
        verify(
            [*signed[:place], replace(signed[place], record=forged)],
            grown.job.job_id,
            DOMAIN,
            verifiers,
        )
    with pytest.raises(RefusedError, match="breaks the hash chain"):
        verify(
            [*signed[:place], sign_record(forged), *signed[place + 1 :]],
            grown.job.job_id,
            DOMAIN,
            verifiers,
        )
