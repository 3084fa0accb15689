"""The second replay of a rejection: one segment in a fresh process, from the state on which both sides agree."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from round_actors import PEER_ID
from signed_world import DOMAIN, key
from small_job import SmallJob, make_small_job

from anynode import __version__
from anynode.blobs.store import BlobStore
from anynode.rounds.audit_secrets import draw_segments, segment_seed
from anynode.rounds.course import Committed, Member, Open, Seal
from anynode.rounds.effects import AskAuditor, Replay
from anynode.rounds.events import Answered, Plan, Replayed
from anynode.rounds.judgements import Redone
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits, Opened, Phase, ReplayVerdict, WorkResult, WorkSpec
from anynode.training.process import Trainer, TrainerSettings
from anynode.training.trace import TraceLeaf, trace_root
from anynode.worker.orders import work_order
from anynode.worker.traces import encode_leaves
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_verifier.auditors import Auditors
from anynode_verifier.calibration import Entry, Limit, Thresholds
from anynode_verifier.disputes import KEPT_MAX, Disputed, Disputes
from anynode_verifier.proofs import parse_proof
from anynode_verifier.replays import Replayer
from anynode_verifier.residual import Residuals
from anynode_verifier.tolerant import Opener

STEPS = 15
"""Five segments of three steps."""
NODE = f"0x{7:040d}"
OTHER = "ab" * 32


@dataclass
class Worker:
    """The worker's end of the line: it shows these leaves, or none. ``gone``: nobody is there any more."""

    leaves: tuple[TraceLeaf, ...] = ()
    asked: int = 0
    gone: bool = False
    peer_id: str = PEER_ID

    async def call(self, *_: object) -> bytes:
        self.asked += 1
        if self.gone:
            raise UnreachableError("the peer does not answer")
        if not self.leaves:
            raise RefusedError("this node shows no trace")
        return encode_leaves(self.leaves)

    @contextlib.contextmanager
    def blaming(self, _: str) -> Iterator[None]:
        yield


class Watched(TrainerKeeper):
    """Remembers what its processes were asked, and which of them; with ``broken_step`` they get that one wrong."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.verdicts: list[tuple[int, ReplayVerdict]] = []
        self.broken_step: int | None = None

    async def get(self) -> Trainer:
        trainer = await super().get()
        for name in ("replay", "replay_disputed"):
            setattr(trainer, name, self._watched(trainer, getattr(type(trainer), name)))
        return trainer

    def _watched(self, trainer: Trainer, method: Any) -> Any:
        async def watched(spec: WorkSpec, *arguments: Any) -> ReplayVerdict:
            if self.broken_step is not None:
                place = self.broken_step * len(spec.indices) // spec.steps
                other = (spec.indices[place] + 1) % 30
                spec = replace(spec, indices=(*spec.indices[:place], other, *spec.indices[place + 1 :]))
            verdict: ReplayVerdict = await method(trainer, spec, *arguments)
            self.verdicts.append((trainer.pid, verdict))
            return verdict

        return watched


@dataclass
class Bench:
    """A round of one worker, and the verifier's replayer of it. ``own``: the verifier's class, if it is another."""

    job: SmallJob
    opened: Open
    honest: WorkResult
    hardware: str
    folder: Path
    worker: Worker
    keeper: Watched
    own: str = ""
    thresholds: Thresholds = field(default_factory=Thresholds)
    replayer: Replayer = field(init=False)

    def __post_init__(self) -> None:
        named = self.thresholds.digest if self.thresholds.entries else ""
        self.opened = replace(self.opened, thresholds=named)
        auditors = Auditors(self.own or self.hardware, Limits(), lambda _: self.keeper)
        self.replayer = Replayer(
            self.job.job,
            self.worker,  # type: ignore[arg-type]
            auditors=auditors,
            opener=Opener(self.job.job, self.worker, key("verifier"), DOMAIN, lambda: 0.0),  # type: ignore[arg-type]
            asking=None,  # type: ignore[arg-type]
            thresholds=self.thresholds,
            secret_of=lambda _: "",
            suspected=lambda _: False,
            residuals=Residuals(self.folder / "residuals.json"),
            folder=self.folder,
            store=BlobStore(self.folder.parent / "blobs"),
            publishes=True,
        )

    def claims(self, update_root: str, leaves: tuple[TraceLeaf, ...], version: str = __version__) -> Seal:
        batch = self.job.job.training.batch_size
        item = Committed(
            slot=0,
            node=NODE,
            steps=STEPS,
            samples=STEPS * batch,
            micro_batch=self.honest.micro_batch,
            update_root=update_root,
            trace_root=trace_root(leaves),
            hardware=self.hardware,
            code_version=version,
            energy_mj=0,
            signature="0x" + "0" * 130,
        )
        return Seal("seal", 0, (item,), (), "0" * 64, 1, (1_000_000,), "", ())

    async def judged(self, seal: Seal, *, again: bool) -> Replayed:
        return await self.replayer.replay(Replay(self.opened, seal, 0, again))

    def false(self, segment: int) -> tuple[TraceLeaf, ...]:
        leaves = list(self.honest.leaves)
        leaves[segment] = replace(leaves[segment], after=OTHER)
        return tuple(leaves)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SmallJob:
    return make_small_job(tmp_path_factory.mktemp("job"))


@pytest.fixture
async def bench(job: SmallJob, tmp_path: Path) -> AsyncIterator[Bench]:
    keeper = Watched(tmp_path / "blobs", job.folder, TrainerSettings(log_path=tmp_path / "trainer.log"))
    trainer = await keeper.get()
    root = await trainer.initial_state()
    count = STEPS * job.job.training.batch_size
    member = Member(0, NODE, "peer", trainer.hardware_class, STEPS, proven=True, reduces=True, audits=False, owner="")
    opened = Open("open", 0, root, "0x" + "b" * 64, True, (member,), (((0, count),),), count, (), STEPS, 60, 30)
    honest = await trainer.work(work_order(job.job, opened, 0, STEPS))
    made = Bench(job, opened, honest, trainer.hardware_class, tmp_path / "disputes", Worker(), keeper)
    yield made
    await made.replayer.close()
    await keeper.close()


async def test_the_second_replay_costs_a_segment_and_not_a_round(bench: Bench) -> None:
    bench.worker.leaves = bench.false(4)
    seal = bench.claims(bench.honest.update_root, bench.worker.leaves)
    first, second = await bench.judged(seal, again=False), await bench.judged(seal, again=True)
    assert (first.outcome, second.outcome) == ("rejected", "rejected") and second.evidence == "exact"
    assert second.reason == first.reason and "segment 4 (steps 12 to 14)" in second.reason
    (pid, whole), (other_pid, segment) = bench.keeper.verdicts
    assert pid != other_pid, "a fresh process"
    assert (whole.steps, segment.steps) == (STEPS, 3)
    assert not first.proof and len(second.proof) == 64
    store, (committed,) = BlobStore(bench.folder.parent / "blobs"), seal.commitments
    proof = parse_proof(store.get(second.proof), bench.job.job.job_id, 0, committed)
    assert proof.dispute is not None and proof.leaves == bench.worker.leaves and proof.reason == second.reason
    found = (proof.dispute.segment, proof.dispute.what, proof.dispute.recomputed, proof.dispute.claimed)
    assert found == (4, "after", bench.honest.leaves[4].after, OTHER)
    assert store.has(proof.dispute.agreed), "other verifiers can have the state before the segment"
    for other in (replace(committed, update_root=OTHER), replace(committed, hardware="cpu other")):
        with pytest.raises(RefusedError, match="about other work"):
            parse_proof(store.get(second.proof), bench.job.job.job_id, 0, other)
    with pytest.raises(RefusedError, match="malformed"):
        parse_proof(b'{"job": 1}', bench.job.job.job_id, 0, committed)
    assert bench.worker.asked == 1 and not any(bench.folder.glob("0-0/*")), "what was kept is gone"


async def test_work_of_another_version_is_void(bench: Bench) -> None:
    """A verifier that was updated while it waited for its audit cannot repeat it, and accuses nobody."""
    found = await bench.judged(bench.claims(OTHER, bench.false(1), "0.0.1"), again=False)
    assert (found.outcome, found.evidence) == ("void", "none") and "AnyNode 0.0.1" in found.reason


async def test_a_false_accusation_is_overturned_by_the_segment_alone(bench: Bench) -> None:
    """The first auditor has a broken memory: it trains on another sample in step 7."""
    bench.worker.leaves = bench.honest.leaves
    seal = bench.claims(bench.honest.update_root, bench.honest.leaves)
    bench.keeper.broken_step = 7
    first = await bench.judged(seal, again=False)
    assert first.outcome == "rejected" and "segment 2 (steps 6 to 8)" in first.reason
    bench.keeper.broken_step = None
    second = await bench.judged(seal, again=True)
    assert (second.outcome, second.evidence) == ("accepted", "exact")
    assert [verdict.steps for _, verdict in bench.keeper.verdicts] == [9, 3]


async def test_what_is_at_risk_in_a_class_is_known_when_the_class_has_been_tried(bench: Bench) -> None:
    """Another number of threads is another class: this keeper always makes the plain one."""
    strange, cuda = bench.hardware.replace("threads-1", "threads-3"), "cuda NVIDIA Some"
    assert strange != bench.hardware
    assert bench.replayer.decides(bench.hardware) and not bench.replayer.decides(strange)
    await bench.replayer.try_classes([strange, cuda, bench.hardware])
    assert not bench.replayer.decides(strange) and not bench.replayer.decides(cuda)
    assert await bench.replayer._auditors.get(bench.hardware) is not None


class Auditor:
    """The line to an auditor, which repeats what is public."""

    def __init__(self) -> None:
        self.asked = 0

    async def task(self, effect: AskAuditor) -> Answered:
        self.asked += 1
        item = effect.seal.commitments[0]
        return Answered(0, 0, Redone(item.update_root, item.trace_root, OTHER), "0x")


async def test_nobody_is_asked_to_audit_what_nobody_here_could_look_at(bench: Bench) -> None:
    """Its answer would be taken under any proof, and paid."""
    strange = replace(bench.opened.members[0], hardware=bench.hardware.replace("threads-1", "threads-3"))
    bench.replayer._asking = auditor = Auditor()  # type: ignore[assignment]
    seal = bench.claims(bench.honest.update_root, bench.honest.leaves)
    plan = Plan(0, 1, STEPS, "c" * 64, known=True)
    answer = await bench.replayer.carry_out(AskAuditor(replace(bench.opened, members=(strange,)), seal, plan))
    assert isinstance(answer, Answered) and answer.redone is None and "not asked" in answer.reason
    assert not auditor.asked
    answer = await bench.replayer.carry_out(AskAuditor(bench.opened, seal, plan))
    assert isinstance(answer, Answered) and answer.redone is not None and auditor.asked == 1


@dataclass
class Asked:
    """An opener that remembers which segments it was asked for, and has them from nobody."""

    segments: list[tuple[int, ...]] = field(default_factory=list)

    async def opened(self, worker: str, round_: int, segments: tuple[int, ...], folder: Path) -> Opened:
        self.segments.append(segments)
        raise RefusedError("nothing is opened")


async def test_segments_follow_from_the_seed_that_a_verdict_reveals(bench: Bench) -> None:
    """Before the exchange there is no block yet, and the sealed secret alone draws."""
    other = bench.hardware.replace("threads-1", "threads-3")
    limits = tuple(Limit(vector, 1, 1, 1) for vector in bench.job.job.training.compared_vectors)
    phases: tuple[Phase, ...] = ("fresh", "moments")
    entries = tuple(Entry(other, bench.hardware, phase, 100, 3, (), limits) for phase in phases)
    frozen = Thresholds(entries)
    made = replace(bench, thresholds=frozen, hardware=other, own=bench.hardware)
    made.replayer._opener = asked = Asked()  # type: ignore[assignment]
    seal = made.claims(made.honest.update_root, made.honest.leaves)
    for seed in ("ab" * 32, "cd" * 32, ""):
        found = await made.replayer.replay(Replay(made.opened, seal, 0, seed=seed))
        assert found.outcome == "void" and "does not open" in found.reason
    seeds = ("ab" * 32, "cd" * 32, segment_seed("", ""))
    assert asked.segments == [draw_segments(seed, 0, len(made.honest.leaves)) for seed in seeds]
    for named in ("", "ef" * 32):
        other_round = replace(made.opened, thresholds=named)
        found = await made.replayer.replay(Replay(other_round, seal, 0, seed="ab" * 32))
        assert found.outcome == "void" and "other thresholds than are frozen here" in found.reason
    assert len(asked.segments) == len(seeds), "what was frozen after the opening judges nothing"


@pytest.mark.deep
async def test_without_a_trace_or_its_state_the_round_is_replayed_whole(bench: Bench) -> None:
    seal = bench.claims(OTHER, bench.honest.leaves)
    for again in (False, True):
        assert (await bench.judged(seal, again=again)).outcome == "rejected", "it shows no trace"
    assert [verdict.steps for _, verdict in bench.keeper.verdicts] == [STEPS, STEPS]
    bench.worker.leaves = bench.false(2)
    seal = bench.claims(bench.honest.update_root, bench.worker.leaves)
    await bench.judged(seal, again=False)
    for path in sorted(bench.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert (await bench.judged(seal, again=True)).outcome == "rejected", "the state was lost"
    assert bench.keeper.verdicts[-1][1].steps == 9
    honest = bench.claims(bench.honest.update_root, bench.honest.leaves)
    bench.worker.leaves = bench.honest.leaves
    assert (await bench.judged(honest, again=False)).outcome == "accepted"


def test_no_more_states_are_kept_than_fit(tmp_path: Path) -> None:
    disputes = Disputes(tmp_path)
    for slot in range(KEPT_MAX + 1):
        folder = disputes.folder_of(3, slot)
        folder.mkdir(parents=True)
        disputes.open(3, slot, Disputed(None, 1, OTHER))  # type: ignore[arg-type]
    assert disputes.of(3, 0) is None and disputes.of(3, 1) is not None
    assert len(list(tmp_path.iterdir())) == KEPT_MAX
