"""One worker in a swarm of one, traces on, against a plain PyTorch loop: same model, data, data type, steps."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from report import Goal, Report, Say

from anynode.blobs.store import BlobStore
from anynode.data.dataset import DataSet
from anynode.data.pack import pack_text
from anynode.device.hardware import pinned_environment
from anynode.exact.layout import chunk_specs, refresh_due
from anynode.jobs.export import export
from anynode.jobs.job import DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.jobs.templates import gpt
from anynode.training.messages import ApplySpec, Limits, OuterStepSpec, ReduceInput, ReduceSpec, WorkSpec
from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

PAIRS = 10
CONTEXT = 64
BATCH = 8
HERE = Path(__file__).parent


@dataclass
class SwarmOfOne:
    """The training process taken through whole rounds as a worker does, its own reducer and its own peer."""

    trainer: Trainer
    store: BlobStore
    job: Job
    root: str
    round: int = 0
    step_s: float = 0.0

    async def one_round(self, steps: int) -> None:
        """Work with its trace and update, delivery to itself, reduction of every chunk, the outer step, the new state
        on disk.
        """
        settings = self.job.training
        refresh = refresh_due(self.round, settings.refresh_rounds, self.round > 0)
        count = steps * settings.batch_size
        indices = tuple((self.round * count + i * 7) % self.job.data.samples for i in range(count))
        spec = WorkSpec(self.job.job_id, self.round, 0, self.root, steps, indices, refresh)
        done = await self.trainer.work(spec)
        self.step_s = done.seconds / done.steps
        manifest = self.store.manifest(done.update_root, "update")
        chunks = zip(chunk_specs(self.job.model.parameters, refresh), manifest.chunks, strict=True)
        orders = []
        for chunk, reference in chunks:
            item = ReduceInput(0, self.store.put(self.store.get(reference.hash)), done.samples, done.steps)
            orders.append(ReduceSpec(self.job.job_id, self.round, chunk.index, refresh, (item,)))
        outcomes = await self.trainer.reduce(orders)
        results = [outcome for outcome in outcomes if isinstance(outcome, str)]  # apply refuses when one is missing
        cursor = (self.round + 1) * count
        after = ApplySpec(self.root, (OuterStepSpec(refresh, tuple(results), done.steps),), self.round + 1, cursor, ())
        self.root = await self.trainer.apply(after)
        await asyncio.to_thread(self.store.sync_blob, self.root, "state")
        self.round += 1


def measure(deep: bool, say: Say) -> Report:
    """Whole rounds of one side and as many steps of the other, in turn: the ratio of each pair, and their median."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), PAIRS * (3 if deep else 1), say))


async def _measure(folder: Path, pairs: int, say: Say) -> Report:
    job = await asyncio.to_thread(_make_job, folder / "job")
    steps = job.training.inner_steps_most
    settings = TrainerSettings(log_path=folder / "trainer.log", limits=Limits(nice=0, device="cpu"))
    plain = await _start_plain(folder / "job")
    try:
        async with await Trainer.start(folder / "store", folder / "job", settings) as trainer:
            swarm = SwarmOfOne(trainer, BlobStore(folder / "store"), job, await trainer.initial_state())
            await swarm.one_round(3)
            await _plain_seconds(plain, 3)
            rows = [await _pair(swarm, plain, steps, number, say) for number in range(pairs)]
    finally:
        plain.kill()
        await plain.wait()
    tokens = steps * BATCH * CONTEXT
    ratio = statistics.median(theirs_s / ours_s for ours_s, theirs_s, _, _ in rows)
    cpu = statistics.median(theirs_s / ours_s for _, _, ours_s, theirs_s in rows)
    return Report(
        keys={"tokens_ratio": ratio, "cpu_ratio": cpu, "inner_steps": steps, "pairs": pairs},
        goals=(Goal("tokens_ratio", ">=", 0.95),),
        columns=("AnyNode, tokens/s", "plain loop, tokens/s", "ratio", "ratio of processor time"),
        rows=[(tokens / a, tokens / b, b / a, d / c) for a, b, c, d in rows],
        notes=(
            f"GPT of {job.model.parameters} parameters, batches of {BATCH} x {CONTEXT} bytes, float32 on one thread, "
            f"rounds of {steps} inner steps, 4-bit updates. Within AnyNode's time: the training process with its trace "
            "(a fingerprint every 5 steps), update, delivery of every chunk to itself through the store, reduction, "
            "outer step, and the next state on disk. Not within it: libp2p streams, signatures and the coordinator's "
            "messages, which a swarm of one has once a round.",
            "The plain loop has its data in memory and steps with torch.optim.AdamW(fused=True). cpu_ratio compares "
            "processor time instead of wall time, which other programs on the machine disturb less.",
        ),
    )


async def _pair(
    swarm: SwarmOfOne, plain: asyncio.subprocess.Process, steps: int, number: int, say: Say
) -> tuple[float, float, float, float]:
    """Wall seconds of either side, then processor seconds of either side."""
    theirs = await _plain_seconds(plain, steps) if number % 2 else None
    began_s, began_cpu_s = time.perf_counter(), _cpu_s(swarm.trainer.pid)
    await swarm.one_round(steps)
    ours_s, ours_cpu_s = time.perf_counter() - began_s, _cpu_s(swarm.trainer.pid) - began_cpu_s
    theirs = theirs or await _plain_seconds(plain, steps)
    say(f"pair {number + 1}: {ours_s:.2f} s ({swarm.step_s * 1e3:.1f} ms a step), plain {theirs['seconds']:.2f} s")
    return ours_s, theirs["seconds"], ours_cpu_s, theirs["cpu_s"]


def _make_job(folder: Path) -> Job:
    text = folder.parent / "text.txt"
    text.write_text("".join(f"{n} squared is {n * n}, and its cube {n**3}; " for n in range(60_000)), encoding="utf-8")
    manifest = pack_text([text], folder, CONTEXT + 1)
    graph = export(*gpt.build(batch_size=BATCH, context=CONTEXT), folder)
    data = DataSet.open(folder)
    training = Training(batch_size=BATCH, inner_steps="auto", rounds=1_000, learning_rate=1e-3, total_steps=100_000)
    files = {path.name: FileRef(root="00" * 32, size_bytes=path.stat().st_size) for path in sorted(folder.iterdir())}
    job = Job(
        name="overhead",
        model=ModelRef(identity=graph.identity, parameters=graph.parameter_count),
        data=DataRef(hash=manifest.hash, samples=data.samples, validation_samples=data.validation_samples),
        files=files,
        training=training,
        workers=Workers(),
        pay=Pay(price_wei_per_sample=1, budget_wei=10**18, cap_per_batch_wei=10**18),
    )
    write_aside(folder / "job.json", job.to_bytes())
    write_aside(folder / "training.json", training.model_dump_json().encode())
    return job


async def _start_plain(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "plain_loop.py"), str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ) | pinned_environment(),
    )


async def _plain_seconds(plain: asyncio.subprocess.Process, steps: int) -> dict[str, float]:
    if plain.stdin is None or plain.stdout is None:
        raise UserError("the plain loop has no pipes; run the benchmark again")
    plain.stdin.write(f"{steps}\n".encode())
    line = await plain.stdout.readline()
    if not line:
        raise UserError("the plain loop ended before it was asked to; its error is above")
    took: dict[str, float] = json.loads(line)
    return took


def _cpu_s(pid: int) -> float:
    """Processor seconds that a process has used (Linux; elsewhere the bench counts none and says nan)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
