"""The other verifiers of a network: where they are, and which of their jobs this one does not have yet."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MaxLen
from pydantic import TypeAdapter, ValidationError

from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.swarm.peer import Peer
from anynode.worker.link import CALL_TIMEOUT_S, JOB, JOBS, LIST_BYTES_MAX, JobListing
from anynode_contracts.errors import BreachError, Offence
from anynode_contracts.networks import Network

_listings: TypeAdapter[tuple[JobListing, ...]] = TypeAdapter(Annotated[tuple[JobListing, ...], MaxLen(1000)])


def other_verifiers(network: Network, me: str) -> dict[str, str]:
    """The libp2p peer of every verifier but ``me``: the network file lists verifiers and initial peers in one order."""
    pairs = zip(network.verifiers, network.initial_peers, strict=False)
    return {node: address.rpartition("/p2p/")[2] for node, address in pairs if node != me}


async def unknown_jobs(peer: Peer, source: str, known: set[str]) -> list[Job]:
    """The jobs of another verifier that are not among ``known``, each checked against its id."""
    data = await peer.call(source, JOBS, b"", CALL_TIMEOUT_S, LIST_BYTES_MAX)
    with peer.blaming(source):
        try:
            listings = _listings.validate_json(data)
        except ValidationError as error:
            raise BreachError("a verifier's list of jobs is malformed; it is ignored", Offence.SCHEMA) from error
    jobs = []
    for job_id in [listing.job_id for listing in listings if listing.job_id not in known]:
        raw = await peer.call(source, JOB, job_id.encode(), CALL_TIMEOUT_S, JOB_BYTES_MAX)
        jobs.append(Job.from_bytes(raw, job_id=job_id))
    return jobs
