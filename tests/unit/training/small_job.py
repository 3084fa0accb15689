"""A small real job for the tests of training: a byte-level GPT, packed text, everything in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anynode.data.dataset import DataSet
from anynode.data.pack import pack_text
from anynode.jobs.export import Exportable, export
from anynode.jobs.job import DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.jobs.templates import gpt
from anynode.training.messages import WorkSpec
from anynode_contracts.files import write_aside


@dataclass(frozen=True)
class SmallJob:
    """A job's folder and description, and the work of a slot in it."""

    folder: Path
    job: Job

    def spec(
        self, state_root: str, *, slot: int = 0, round_: int = 0, steps: int = 7, refresh: bool = True
    ) -> WorkSpec:
        size = self.job.training.batch_size
        first = (round_ * 1_000 + slot * steps * size) % 64
        indices = tuple((first + i) % self.job.data.samples for i in range(steps * size))
        return WorkSpec(self.job.job_id, round_, slot, state_root, steps, indices, refresh)


def make_small_job(folder: Path, model: Exportable | None = None) -> SmallJob:
    """Export, pack and describe the job in ``folder``."""
    text = folder.parent / "text.txt"
    text.write_text("".join(f"{n} squared is {n * n}; " for n in range(400)), encoding="utf-8")
    model = model or gpt.tiny()
    manifest = pack_text([text], folder, model.example_batch["tokens"].shape[1])
    graph = export(model.loss, model.params, model.example_batch, folder)
    data = DataSet.open(folder)
    files = {path.name: FileRef(root="00" * 32, size_bytes=path.stat().st_size) for path in sorted(folder.iterdir())}
    job = Job(
        name="small",
        model=ModelRef(identity=graph.identity, parameters=graph.parameter_count),
        data=DataRef(hash=manifest.hash, samples=data.samples, validation_samples=data.validation_samples),
        files=files,
        training=Training(
            batch_size=graph.batch_size,
            inner_steps=7,
            rounds=4,
            learning_rate=3e-3,
            total_steps=60,
            warmup_steps=5,
            segment_steps=3,
            evaluation_samples=16,
        ),
        workers=Workers(),
        pay=Pay(price_wei_per_sample=1, budget_wei=10**9, cap_per_batch_wei=10**9),
    )
    write_aside(folder / "job.json", job.to_bytes())
    return SmallJob(folder, job)
