"""What may be taken out of the model: proven frauds, as their judgements stand, when a verifier asks for it anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from appealed_world import ACCUSED, BETRAYS, ERRS, TRAITOR, AppealedWorld, appealed_world
from signed_world import DOMAIN, key, sign_record

from anynode.rounds.chain import RecordLog
from anynode.rounds.coordination import Phase
from anynode.rounds.corrections import History, Past, outcome
from anynode.rounds.effects import Replay
from anynode.rounds.events import Excise, Replayed
from anynode.rounds.judgements import CorrectedRound, Ruling, Verdict
from anynode.rounds.records import Record
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import sign
from anynode_verifier.excision import ExcisionRequest, Excisions, excision_statement

VERIFIER = key("verifier")


@pytest.fixture(scope="module")
def world() -> AppealedWorld:
    return appealed_world()


@dataclass
class Office:
    """The excisions of one verifier, over the first ``height`` records. Replays find what is true of the work."""

    world: AppealedWorld
    folder: Path
    height: int
    replayed: list[tuple[int, int]] = field(default_factory=list)
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[Excise] = field(default_factory=list)
    excisions: Excisions = field(init=False)

    def __post_init__(self) -> None:
        job_id, log = self.world.job.job_id, RecordLog(self.folder / "records.jsonl", self.world.job.job_id)
        log.append(sign_record(record) for record in self.world.records[: self.height])
        state: Any = SimpleNamespace(phase=Phase.WAITING, excise=None, height=self.height)
        hands: Any = SimpleNamespace(get=self._get, replay=self._replay, without=self._without, is_whole=lambda _: True)
        self.excisions = Excisions(
            job_id,
            domain=DOMAIN,
            verifiers=(VERIFIER.address,),
            records=log,
            keeping=hands,
            trainers=hands,
            replayer=hands,
            averager=hands,
            state=lambda: state,
            tell=self._tell,
        )

    async def _get(self) -> Any:
        return SimpleNamespace(apply=None)

    async def _replay(self, effect: Replay) -> Replayed:
        node, number = effect.open.members[effect.slot].node, effect.open.round
        self.replayed.append((number, effect.slot))
        self.looked.set()
        honest = self.world.honest_in(node, number)
        return Replayed(number, effect.slot, "accepted" if honest else "rejected", "exact", "replayed", effect.again)

    async def _without(self, past: Past, out: frozenset[int]) -> CorrectedRound:
        senders, steps = outcome(past, out)
        return CorrectedRound(past.open.round, ("ab" * 32,) * len(senders), steps)

    async def _tell(self, message: Excise) -> None:
        self.told.append(message)

    def request(self, *slots: tuple[int, int], height: int) -> ExcisionRequest:
        said = excision_statement(self.world.job.job_id, slots, height)
        return ExcisionRequest(slots, height, sign(VERIFIER, DOMAIN, said))

    async def ask(self, request: ExcisionRequest) -> None:
        """Ask until the core is told. Raises ``RefusedError``."""
        while not self.told:
            await self.excisions.asked(canonical_json(asdict(request)))
            await asyncio.sleep(0)


def place_of(records: Sequence[Record], kind: type, round_: int, node: str) -> tuple[int, tuple[int, int]]:
    """The height of the verdict or ruling on a node's work, and its round and slot."""
    for record in records:
        for item in (record.body,) if isinstance(record.body, Ruling) else getattr(record.body, "judged", ()):
            if isinstance(record.body, kind) and (record.body.round, item.node) == (round_, node):
                return record.height, (round_, item.slot)
    raise AssertionError(f"nothing of kind {kind.__name__} is about {node} in round {round_}")


def test_what_an_appeal_has_cleared_is_replayed_before_it_could_be_taken_out(
    world: AppealedWorld, tmp_path: Path
) -> None:
    ruled_at, key_ = place_of(world.records, Ruling, ERRS, ACCUSED)
    office = Office(world, tmp_path, ruled_at + 1)
    with pytest.raises(RefusedError, match="not proven a fraud"):
        asyncio.run(office.ask(office.request(key_, height=ruled_at + 1)))
    assert office.replayed == [key_] and not office.told


def test_a_request_of_before_a_judgement_is_nothing_after_it(world: AppealedWorld, tmp_path: Path) -> None:
    judged_at, _ = place_of(world.records, Verdict, ERRS, ACCUSED)
    ruled_at, key_ = place_of(world.records, Ruling, ERRS, ACCUSED)
    office = Office(world, tmp_path, ruled_at + 1)
    for height in (judged_at, judged_at + 1, ruled_at):
        with pytest.raises(RefusedError, match="judged after this was asked for"):
            asyncio.run(office.ask(office.request(key_, height=height)))
    with pytest.raises(RefusedError, match="not there yet"):
        asyncio.run(office.ask(office.request(key_, height=ruled_at + 2)))
    raised = ExcisionRequest((key_,), ruled_at + 1, office.request(key_, height=ruled_at).signature)
    with pytest.raises(RefusedError, match="only a verifier"):
        asyncio.run(office.ask(raised))
    assert not office.replayed and not office.told


def test_what_a_verdict_has_rejected_is_taken_out_without_a_replay(world: AppealedWorld, tmp_path: Path) -> None:
    """Until an appeal is granted: the verdict rests on two replays."""
    judged_at, key_ = place_of(world.records, Verdict, ERRS, ACCUSED)
    office = Office(world, tmp_path, judged_at + 1)
    asyncio.run(office.ask(office.request(key_, height=judged_at + 1)))
    assert [(item.round, item.slot) for item in office.told[0].excised] == [key_] and not office.replayed


def test_who_does_not_come_back_for_its_excision_stops_no_other(world: AppealedWorld, tmp_path: Path) -> None:
    judged_at, rejected = place_of(world.records, Verdict, ERRS, ACCUSED)
    office = Office(world, tmp_path, judged_at + 1)
    past = History.of(world.records).rounds[ERRS]
    honest = ERRS, next(slot for slot in sorted(past.included) if slot != rejected[1])

    async def both() -> None:
        await office.excisions.asked(canonical_json(asdict(office.request(honest, height=judged_at + 1))))
        await office.looked.wait()
        await office.ask(office.request(rejected, height=judged_at + 1))

    asyncio.run(both())
    assert [(item.round, item.slot) for item in office.told[0].excised] == [rejected]


def test_the_history_says_what_rulings_have_made_of_work(world: AppealedWorld) -> None:
    history = History.of(world.records)
    _, cleared = place_of(world.records, Ruling, ERRS, ACCUSED)
    _, upheld = place_of(world.records, Ruling, BETRAYS, TRAITOR)
    assert history.judged[cleared].accepted and history.judged[upheld].rejected
    assert not history.cleared, "nothing was taken out"
