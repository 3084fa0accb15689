"""What of past rounds is still needed: a pure decision over the records, carried out by `worker/keeping.py`.

Contributions are kept 32 rounds or until their round's verdicts are final, whichever is later, but no longer than 256
rounds; averaged chunks as long
as the rule says; of the states the newest few, on a coordinator also one in fifty and those that a replay may need.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from anynode.rounds.appeals import APPEAL_ROUNDS
from anynode.rounds.course import Assign, Begin, Close, Open, Result, Seal
from anynode.rounds.judgements import CORRECTION_ROUNDS_MAX, Correct, Verdict
from anynode.rounds.records import Record

CONTRIBUTION_ROUNDS = CORRECTION_ROUNDS_MAX
UNJUDGED_ROUNDS = 256
"""A verdict that has not come after so many rounds will not: nothing may fill a disk for ever."""


@dataclass(frozen=True, slots=True)
class Retention:
    """``states``: how many of the newest are kept. ``state_every``: one in so many for ever (0: none).
    ``result_rounds``: how long averaged chunks are kept (0: for ever). ``replays``: states and averages of a round
    stay until its verdicts are final. What nothing names (of an attempt that did not count, of a broken download) goes
    after ``forgotten_s``.
    """

    states: int = 3
    state_every: int = 0
    result_rounds: int = CONTRIBUTION_ROUNDS
    replays: bool = False
    forgotten_s: float = 3600.0


#: A day for what is forgotten: an owner may be uploading a job.
COORDINATOR = Retention(state_every=50, result_rounds=0, replays=True, forgotten_s=86_400.0)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a round leaves in the store: the state it starts from, the sealed updates, the averaged chunks, the fraud
    proofs of what was rejected in it, and what was signed as averages and is none.
    """

    round: int
    state_root: str
    updates: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    final: bool = False


@dataclass(frozen=True, slots=True)
class Blobs:
    """Roots of states and updates, hashes of averaged chunks and of fraud proofs."""

    states: frozenset[str]
    updates: frozenset[str]
    results: frozenset[str]


def footprints(records: Iterable[Record]) -> list[Footprint]:
    """The footprint of every round that the records tell of, and of the one that comes next."""
    rounds: dict[int, Footprint] = {}
    for record in records:
        match record.body:
            case Begin(state_root=root):
                rounds[0] = Footprint(0, root)
            case Open(round=number, state_root=root):
                rounds[number] = Footprint(number, root)
            case Seal(round=number, commitments=commitments):
                rounds[number] = replace(rounds[number], updates=tuple(item.update_root for item in commitments))
            case Result(round=number, chunks=chunks):
                results = tuple(entry.result for entry in chunks)
                rounds[number] = replace(rounds[number], results=results, final=not results)
            case Assign(round=number, rejected=rejected, unreadable=unreadable):
                said = tuple(entry.result for item in unreadable for entry in item.entries)
                proofs = tuple(item.proof for item in rejected if item.proof)
                rounds[number] = replace(rounds[number], proofs=proofs, unreadable=said)
            case Verdict(round=number, judged=judged):
                proofs = tuple(item.proof for item in judged if item.proof)
                rounds[number] = replace(rounds[number], proofs=proofs, final=True)
            case Close(round=number, state_root=root):
                rounds[number + 1] = Footprint(number + 1, root)
            case Correct(round=number, rounds=corrected, state_root=root):
                results = tuple(digest for item in corrected for digest in item.results)
                rounds[number] = replace(rounds[number], results=results, final=True)
                rounds[number + 1] = Footprint(number + 1, root)
    return [rounds[number] for number in sorted(rounds)]


def needed(past: Sequence[Footprint], rule: Retention) -> Blobs:
    """What must stay. Whatever else ``past`` names may go."""
    newest = past[-1].round if past else 0
    states, updates, results = set[str](), set[str](), set[str]()
    for item in past:
        age = newest - item.round
        may_be_replayed = rule.replays and not item.final
        appealable = rule.replays and bool(item.proofs) and age <= APPEAL_ROUNDS
        if (
            age < rule.states
            or may_be_replayed
            or appealable
            or (rule.state_every and item.round % rule.state_every == 0)
        ):
            states.add(item.state_root)
        if age <= (CONTRIBUTION_ROUNDS if item.final else UNJUDGED_ROUNDS):
            updates.update(item.updates)
        if rule.result_rounds == 0 or age <= rule.result_rounds or may_be_replayed:
            results.update(item.results)
        results.update((*item.proofs, *item.unreadable))  # a rejection can be looked into as long as there is a job
    return Blobs(frozenset(states), frozenset(updates), frozenset(results))
