"""What a job's settings fix for the coordinator's core, for all of its rounds. Pure."""

from __future__ import annotations

from anynode import __version__
from anynode.exact.layout import chunk_specs
from anynode.jobs.job import Job
from anynode.rounds.coordinator import Rules


def rules_of(
    job: Job, state_root: str, hardware: frozenset[str], *, thresholds: str, audit_key: bytes, alive_s: float
) -> Rules:
    """``hardware``: the classes whose work can be audited here; ``thresholds``: the hash of those that are frozen."""
    training, workers = job.training, job.workers
    return Rules(
        job=job.job_id,
        state_root=state_root,
        rounds=training.rounds,
        inner_steps_min=training.inner_steps_least,
        inner_steps_max=training.inner_steps_most,
        newcomer_steps=training.newcomer_steps * training.parts,
        parts=training.parts,
        batch_size=training.share_samples,
        refresh_rounds=training.refresh_rounds,
        chunks=len(chunk_specs(job.model.parameters, False)),
        chunks_on_refresh=len(chunk_specs(job.model.parameters, True)),
        audit_key=audit_key,
        publishes_moments=training.publishes_moments,
        total_steps=training.total_steps if training.inner_steps == "auto" else 1 << 62,
        samples_max=job.samples_max,
        hardware=hardware,
        members_min=workers.min_workers,
        members_max=workers.max_workers,
        work_s=workers.round_deadline_s,
        exchange_s=workers.exchange_deadline_s,
        alive_s=alive_s,
        thresholds=thresholds,
        code_version=__version__,
    )
