"""From the records of a round to the orders for the training process: the same for worker, verifier and auditor."""

from __future__ import annotations

from anynode.jobs.job import Job
from anynode.rounds.deal import sample_indices
from anynode.rounds.records import Open, Result
from anynode.training.messages import ApplySpec, WorkSpec


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
        indices=tuple(indices[: steps * job.training.batch_size]),
        refresh=opened.refresh,
        micro_batch=micro_batch,
    )


def apply_order(opened: Open, result: Result) -> ApplySpec:
    """The outer step that a round's result stands for."""
    return ApplySpec(
        state_root=opened.state_root,
        refresh=opened.refresh,
        results=tuple(entry.result for entry in result.chunks),
        steps_advance=result.steps,
        next_round=result.round + 1,
        cursor=result.cursor,
        returned=result.returned,
    )
