"""From the records of a round to the orders for the training process: the same for worker, verifier and auditor."""

from __future__ import annotations

from anynode.jobs.job import Job
from anynode.rounds.corrections import Run
from anynode.rounds.course import Open, Result
from anynode.rounds.deal import sample_indices
from anynode.rounds.ids import Range
from anynode.training.messages import ApplySpec, OuterStepSpec, WorkSpec


def work_order(job: Job, opened: Open, slot: int, steps: int, micro_batch: int = 0) -> WorkSpec:
    """The first ``steps`` inner steps of the work that was dealt to ``slot``, ``micro_batch`` samples at a time: as was
    committed, or 0 for as many as fit here.
    """
    indices = sample_indices(job.job_id, opened.ranges[slot], job.data.samples)
    return WorkSpec(
        job_id=job.job_id,
        round=opened.round,
        slot=slot,
        state_root=opened.state_root,
        steps=steps,
        indices=tuple(indices[: steps * job.training.share_samples]),
        refresh=opened.refresh,
        micro_batch=micro_batch,
    )


def apply_order(opened: Open, result: Result) -> ApplySpec:
    """The outer step that a round's result stands for."""
    step = OuterStepSpec(opened.refresh, tuple(entry.result for entry in result.chunks), result.steps)
    return ApplySpec(opened.state_root, (step,), result.round + 1, result.cursor, result.returned)


def run_order(run: Run, next_round: int, cursor: int, returned: tuple[Range, ...]) -> ApplySpec:
    """Several outer steps, ending in the state that ``next_round`` opens from."""
    steps = tuple(OuterStepSpec(step.refresh, step.results, step.steps) for step in run.steps)
    return ApplySpec(run.start_root, steps, next_round, cursor, returned)
