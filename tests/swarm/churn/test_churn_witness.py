"""A reducer that gives one sender no receipt cannot leave it out: the sender turns to the reducer's witness.

The tests share one swarm of three workers; the third is the reducer that hears nothing of the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from churn_network import PACE, STEADY, ChurnNetwork
from small_network import NETWORK

from anynode.rounds.course import Assign, ChunkResult, Open, Result

PROGRAM = Path(__file__).parent / "programs" / "deaf.py"
SENDER = STEADY[0]
#: A reducer that lets others wait is given no more chunks, so each case has a fresh one.
REDUCERS = {"takes": "worker-3", "omits": "worker-4"}


@dataclass(frozen=True)
class Witnessed:
    """A chunk that the deaf reducer was to average, with another than the sender as its witness, and its result."""

    round: int
    reducer: int
    witness: int
    sender: int
    result: ChunkResult


def witnessed(swarm: ChurnNetwork, deaf: str) -> list[Witnessed]:
    """The chunks in finished rounds for which the sender needed the witness."""
    # Read last to first: the log grows meanwhile, and every result that is seen has its assignment before it.
    results = {body.round: {entry.chunk: entry for entry in body.chunks} for body in swarm.bodies(Result)}
    firsts = {body.round: body for body in swarm.bodies(Assign) if body.attempt == 0}
    found = []
    for opened in swarm.bodies(Open):
        slots = {member.node: member.slot for member in opened.members}
        sender, reducer = slots.get(swarm.nodes[SENDER]), slots.get(swarm.nodes[deaf])
        if opened.round not in results or sender is None or reducer is None:
            continue
        first, entries = firsts[opened.round], results[opened.round]
        found += [
            Witnessed(opened.round, reducer, item.witness, sender, entries[item.chunk])
            for item in first.reducers
            if item.slot == reducer and item.witness != sender and sender in first.accepted
        ]
    return found


@pytest.mark.deep
@pytest.mark.parametrize("also", REDUCERS)
def test_a_sender_without_receipt_is_in_the_result_through_the_witness(swarm: ChurnNetwork, also: str) -> None:
    """A reducer that takes what the witness hands on keeps its work; one that leaves the sender out loses it."""
    before, deaf = swarm.lines(), REDUCERS[also]
    program = (str(PROGRAM), also, swarm.nodes[SENDER])
    swarm.start_program(deaf, "opens with 3 members: slot", program, "--network", NETWORK, "--wallet", deaf, *PACE)
    swarm.until("a witnessed chunk", lambda: bool(witnessed(swarm, deaf)), "verifier", *STEADY, deaf)
    swarm.until_rounds(2, *STEADY, deaf)
    cases = witnessed(swarm, deaf)
    for case in cases:
        assert case.sender in case.result.senders, case
        if also == "omits":
            assert case.result.reducer == case.witness and case.result.attempt > 0, case
        else:
            assert case.result.reducer == case.reducer and case.result.attempt == 0, case
    heard = re.findall(r"round (\d+): chunks \[[\d, ]+\] from a (sender|witness)", swarm.processes.log(deaf))
    for word in ("sender", "witness"):
        assert {case.round for case in cases} <= {int(number) for number, of in heard if of == word}
    swarm.check(before)
    swarm.processes.stop(deaf)
