"""The other verifiers of a network: where they are, and which jobs they have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Annotated

from annotated_types import MaxLen
from pydantic import TypeAdapter, ValidationError

from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.swarm.peer import Peer
from anynode.worker.link import CALL_TIMEOUT_S, JOB, JOBS, LIST_BYTES_MAX, JobListing
from anynode_contracts.errors import BreachError, Offence, UserError
from anynode_contracts.networks import Network

CONNECT_PAUSE_S = 2.0
CONNECT_TIMEOUT_S = 5.0

_listings: TypeAdapter[tuple[JobListing, ...]] = TypeAdapter(Annotated[tuple[JobListing, ...], MaxLen(1000)])


def other_verifiers(network: Network, me: str) -> dict[str, str]:
    """The libp2p peer of every verifier but ``me``: the network file lists verifiers and initial peers in one order."""
    pairs = zip(network.verifiers, network.initial_peers, strict=False)
    return {node: address.rpartition("/p2p/")[2] for node, address in pairs if node != me}


async def keep_connected(peer: Peer, addresses: Collection[str], others: Collection[str]) -> None:
    """Stay connected to the other verifiers (libp2p peers ``others``, below ``addresses``) until cancelled."""
    while others:
        connected = await peer.connected_peers()
        for address in addresses:
            peer_id = address.rpartition("/p2p/")[2]
            if peer_id in others and peer_id not in connected:
                with contextlib.suppress(UserError):
                    await peer.connect(address, CONNECT_TIMEOUT_S)
        await asyncio.sleep(CONNECT_PAUSE_S)


async def jobs_of(peer: Peer, source: str) -> list[str]:
    """The ids of the jobs that another verifier has, the oldest first."""
    data = await peer.call(source, JOBS, b"", CALL_TIMEOUT_S, LIST_BYTES_MAX)
    with peer.blaming(source):
        try:
            listings = _listings.validate_json(data)
        except ValidationError as error:
            raise BreachError("a verifier's list of jobs is malformed; it is ignored", Offence.SCHEMA) from error
    return [listing.job_id for listing in listings]


async def job_of(peer: Peer, source: str, job_id: str) -> Job:
    """A job as another verifier describes it, checked against its id."""
    return Job.from_bytes(await peer.call(source, JOB, job_id.encode(), CALL_TIMEOUT_S, JOB_BYTES_MAX), job_id=job_id)
