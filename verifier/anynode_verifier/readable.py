"""Whether what reducers have signed are averages that a round can apply: tried before anybody signs for them.

A hash says nothing of the bytes behind it. Once a record names an average that cannot be read, no peer could take the
outer step, and nobody could take the record back.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.blobs.store import BlobStore
from anynode.exact.layout import chunk_specs
from anynode.jobs.job import Job
from anynode.rounds.course import ChunkResult
from anynode.rounds.messages import Average
from anynode.training.rules import exchange_rules
from anynode_contracts.errors import RefusedError


def unreadable(
    job: Job, store: BlobStore, averages: Iterable[Average] | Iterable[ChunkResult], *, refresh: bool
) -> dict[int, str]:
    """By chunk, why its average is no canonical payload of the job; all of them are in ``store``.

    Raises ``RefusedError`` where one is not, or is damaged there.
    """
    specs, rules = chunk_specs(job.model.parameters, refresh), exchange_rules(job.training)
    found: dict[int, str] = {}
    for item in averages:
        payload, spec = store.get(item.result), specs[item.chunk]
        try:
            rules.codec(spec.section).parse(payload, spec.count)
        except RefusedError as error:
            found[item.chunk] = str(error)
    return found
