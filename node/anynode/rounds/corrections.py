"""Forward corrections: what past rounds give without a fraud that was found late. Pure.

A round's updates are fixed once it has closed, and the outer step of the round depends on their average alone. So the
state that a fraud has left out is reached from a state before it by taking the same outer steps with other averages.
That is the newest state plus the difference of two runs of outer steps; taken as the end of the second run, nothing is
rounded in between, and the newest state is always what all rounds give as they count now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from anynode.rounds.books import close_books
from anynode.rounds.course import Begin, Close, Open, Result, Seal
from anynode.rounds.deal import merge, take
from anynode.rounds.ids import Range
from anynode.rounds.judgements import CORRECTION_ROUNDS_MAX, Correct, CorrectedRound, Excision, Judged, Ruling, Verdict
from anynode.rounds.records import Record
from anynode_contracts.errors import InvariantError


@dataclass(frozen=True, slots=True)
class Past:
    """A closed round as it counts now: without the slots ``excised``, with ``results`` (none: void) and ``steps``.

    ``corrected_by``: the number of the correction that changed it last, -1 for none.
    """

    open: Open
    seal: Seal
    result: Result
    results: tuple[str, ...]
    steps: int
    excised: frozenset[int] = frozenset()
    corrected_by: int = -1

    def senders(self, also: frozenset[int] = frozenset()) -> tuple[tuple[int, ...], ...]:
        """Whose updates each chunk averages, without the excised slots and ``also`` these. Where a chunk loses its only
        sender the round is void, and there are none.
        """
        out = self.excised | also
        left = tuple(tuple(slot for slot in entry.senders if slot not in out) for entry in self.result.chunks)
        return left if all(left) else ()

    @property
    def included(self) -> frozenset[int]:
        return frozenset(slot for senders in self.senders() for slot in senders)


@dataclass(frozen=True, slots=True)
class Place:
    """The state that number ``round`` opens from: its root, and what of the pool it holds."""

    state_root: str
    cursor: int = 0
    returned: tuple[Range, ...] = ()


@dataclass
class History:
    """The rounds of a job as they count now; ``places`` has one more than there are rounds and corrections.

    By round and slot, ``judged`` is what verdicts and granted appeals have made of work, and ``cleared`` what an appeal
    has cleared when it was out of the model already: there it stays.
    """

    rounds: dict[int, Past] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    judged: dict[tuple[int, int], Judged] = field(default_factory=dict)
    cleared: set[tuple[int, int]] = field(default_factory=set)
    _open: Open | None = None
    _seal: Seal | None = None
    _result: Result | None = None

    @classmethod
    def of(cls, records: Iterable[Record]) -> History:
        history = cls()
        for record in records:
            history.take(record)
        return history

    def fork(self) -> History:
        """A history that has taken in as much, and may be tried on a record without harm to this one."""
        return replace(
            self,
            rounds=dict(self.rounds),
            places=dict(self.places),
            judged=dict(self.judged),
            cleared=set(self.cleared),
        )

    @property
    def number(self) -> int:
        """The number that comes next."""
        return len(self.places) - 1

    def take(self, record: Record) -> None:
        """Take in the next record of a chain whose form is right."""
        match record.body:
            case Begin() as body:
                self.places[0] = Place(body.state_root)
            case Open() as body:
                self._open = body
            case Seal() as body:
                self._seal = body
            case Result() as body:
                self._result = body
            case Close() as body:
                self._close(body)
            case Verdict() as body:
                self.judged.update({(body.round, item.slot): item for item in body.judged})
            case Correct() as body:
                self._correct(body)
            case Ruling() as body if body.granted:
                self._clear(body)
            case _:
                pass

    def _close(self, body: Close) -> None:
        opened, seal, result = self._open, self._seal, self._result
        if opened is None or seal is None or result is None:
            raise InvariantError("a round closes with all its records")
        results = tuple(entry.result for entry in result.chunks)
        self.rounds[body.round] = Past(opened, seal, result, results, result.steps)
        self.places[body.round + 1] = Place(body.state_root, result.cursor, result.returned)

    def _clear(self, body: Ruling) -> None:
        key = body.round, body.slot
        self.judged[key] = Judged(body.slot, body.node, "accepted", "exact", body.reason)
        if body.slot in self.rounds[body.round].excised:
            self.cleared.add(key)

    def _correct(self, body: Correct) -> None:
        out = slots_by_round(body.excised)
        for item in body.rounds:
            past = self.rounds[item.round]
            self.rounds[item.round] = replace(
                past,
                results=item.results,
                steps=item.steps,
                excised=past.excised | out.get(item.round, frozenset()),
                corrected_by=body.round,
            )
        cursor = self.places[body.round].cursor
        self.places[body.round + 1] = Place(body.state_root, cursor, body.returned)

    def root_stands(self, number: int) -> bool:
        """Whether the recorded state of ``number`` is what the rounds before it give as they count now."""
        return all(past.corrected_by < number for round_, past in self.rounds.items() if round_ < number)


def slots_by_round(excised: Iterable[Excision]) -> dict[int, frozenset[int]]:
    """The excised slots of each round."""
    out: dict[int, frozenset[int]] = {}
    for item in excised:
        out[item.round] = out.get(item.round, frozenset()) | {item.slot}
    return out


def refusal(history: History, round_: int, slot: int) -> str:
    """Why a slot cannot be excised now, in one sentence; empty where it can."""
    past = history.rounds.get(round_)
    if past is None:
        return f"round {round_} has not closed; choose one that has"
    if slot not in past.included:
        return f"slot {slot} has no part in the average of round {round_}, so there is nothing to take out of it"
    if (round_, slot) not in history.judged:
        return f"the verdict on round {round_} is not in yet; ask again when it is"
    if history.number - round_ > CORRECTION_ROUNDS_MAX:
        return (
            f"round {round_} is more than {CORRECTION_ROUNDS_MAX} rounds ago, and its updates are no longer kept; "
            "it stays as it is"
        )
    return ""


def outcome(past: Past, slots: frozenset[int]) -> tuple[tuple[tuple[int, ...], ...], int]:
    """What a round is without ``slots`` too: the senders of each chunk, none where it is void, and its steps."""
    senders = past.senders(slots)
    chunks = [replace(entry, senders=left) for entry, left in zip(past.result.chunks, senders, strict=False)]
    return senders, close_books(past.open, past.seal, chunks).steps


def given_back(past: Past, slots: frozenset[int]) -> tuple[Range, ...]:
    """The positions that count as trained now and would not without ``slots``: they go back to the pool."""
    left = {slot for senders in past.senders(slots) for slot in senders}
    samples = {item.slot: item.samples for item in past.seal.commitments}
    return tuple(
        piece for slot in sorted(past.included - left) for piece in take(0, past.open.ranges[slot], samples[slot])[0]
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the state after a correction: its steps, the pool's returned ranges, whether it has moments."""

    steps: int
    returned: tuple[Range, ...]
    has_moments: bool


def totals(history: History, excised: Iterable[Excision], rounds: Iterable[CorrectedRound]) -> Totals:
    """What follows from taking ``excised`` out at this place of the chain, with what their rounds then give."""
    out, corrected = slots_by_round(excised), {item.round: item for item in rounds}
    counted = [(past, corrected.get(number, past)) for number, past in history.rounds.items()]
    back = [piece for number, slots in out.items() for piece in given_back(history.rounds[number], slots)]
    return Totals(
        steps=sum(item.steps for _, item in counted),
        returned=merge([*history.places[history.number].returned, *back]),
        has_moments=any(past.open.refresh and bool(item.results) for past, item in counted),
    )


def complaint(history: History, body: Correct) -> str:
    """What in a correction does not follow from the records before it; empty where all of it does. That the excised
    work is a fraud, and that the hashes are right, only replays can show.
    """
    keys = [(item.round, item.slot) for item in body.excised]
    if body.round != history.number or not keys or keys != sorted(set(keys)):
        return "does not take the next number, or names no slots in order"
    for item in body.excised:
        if refusal(history, item.round, item.slot):
            return f"takes slot {item.slot} out of round {item.round}, which cannot be"
        if history.rounds[item.round].open.members[item.slot].node != item.node:
            return f"names another node for slot {item.slot} of round {item.round}"
    out = slots_by_round(body.excised)
    if [item.round for item in body.rounds] != sorted(out):
        return "corrects other rounds than those of the excised"
    for corrected in body.rounds:
        past = history.rounds[corrected.round]
        senders, steps = outcome(past, out[corrected.round])
        if (len(corrected.results), corrected.steps) != (len(senders), steps):
            return f"counts other chunks or steps of round {corrected.round} than are left"
        kept = zip(past.senders(), senders, past.results, corrected.results, strict=False)
        if any(before == after and old != new for before, after, old, new in kept):
            return f"changes a chunk of round {corrected.round} in which nothing was excised"
    said = Totals(body.steps, body.returned, body.has_moments)
    return "" if said == totals(history, body.excised, body.rounds) else "counts other steps or samples than are left"


@dataclass(frozen=True, slots=True)
class OuterStep:
    """One outer step: its averaged chunks (none: void), whether they renew the moments, and its steps."""

    results: tuple[str, ...]
    refresh: bool
    steps: int


@dataclass(frozen=True, slots=True)
class Run:
    """Outer steps from a state that is kept."""

    start_root: str
    steps: tuple[OuterStep, ...]


def run_to(
    history: History,
    number: int,
    has_state: Callable[[str], bool],
    corrected: Mapping[int, CorrectedRound] | None = None,
) -> Run | None:
    """The outer steps that give the state of ``number``, as rounds count now or with ``corrected`` ones, from the
    newest state that is kept. None if none is.

    A recorded state serves as the start only where nothing before it has been corrected since.
    """
    changed = corrected or {}
    limit = min([number, *changed])
    for start in range(limit, -1, -1):
        root = history.places[start].state_root
        if history.root_stands(start) and has_state(root):
            rounds = [item for item in range(start, number) if item in history.rounds]
            counted = [(history.rounds[item].open.refresh, changed.get(item, history.rounds[item])) for item in rounds]
            steps = tuple(OuterStep(item.results, refresh, item.steps) for refresh, item in counted)
            return Run(root, steps)
    return None
