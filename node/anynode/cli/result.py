"""`anynode result`: fetch what a job has trained, with the public records that prove it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.api import Api
from anynode.cli.options import load_network, network_option
from anynode.cli.output import Output, reports
from anynode_contracts.errors import RefusedError, UserError

if TYPE_CHECKING:
    from anynode.blobs.manifest import Manifest
    from anynode.blobs.store import BlobStore
    from anynode.jobs.job import Job
    from anynode.rounds.public import PublicFolder
    from anynode.rounds.records import SignedRecord
    from anynode_contracts.networks import Network


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER")
@network_option
@click.option("--job", "job_id", metavar="ID", help="Which job. Default: the only one.")
@reports
def result(output: Output, *, out: Path, network: str, job_id: str | None) -> None:
    """Write a job's trained model, its record chain, its results and the ledger into FOLDER.

    Signatures and hashes are checked on the way; `anynode audit FOLDER` then recomputes what they stand for.
    Repeating it fetches only what is missing.

    \b
    Example:
      anynode result result/ --network development
      anynode audit result/
    """
    from anynode.rounds.public import PublicFolder

    known = load_network(network)
    api = Api(known)
    chosen = job_id or _only_job(api)
    folder = PublicFolder(out)
    job = _fetch_job(output, api, folder, chosen)
    records = _fetch_records(output, api, folder, known, job)
    _fetch_results(output, api, folder, records)
    from anynode_contracts.files import write_aside

    write_aside(folder.ledger_path, api.ask("GET", "/v1/ledger"))
    known.save(folder.network_path)
    state_root = _newest_root(records)
    _fetch_blob(api, folder.store, state_root, "state")
    asyncio.run(_export(folder, state_root))
    output.say(f"The model is in {folder.model_path}; check it all with `anynode audit {out}`")
    facts = {"job_id": job.job_id, "records": len(records), "state_root": state_root}
    output.result(facts | {"model": str(folder.model_path), "folder": str(out)})


def _only_job(api: Api) -> str:
    jobs = api.get("/v1/status")["jobs"]
    if len(jobs) != 1:
        raise UserError(f"the verifier runs {len(jobs)} jobs; choose one with --job, see `anynode status`")
    return str(jobs[0]["job_id"])


def _fetch_job(output: Output, api: Api, folder: PublicFolder, job_id: str) -> Job:
    from anynode.jobs.job import Job
    from anynode.jobs.resolve import materialise
    from anynode_contracts.files import write_aside

    job = Job.from_bytes(api.ask("GET", f"/v1/jobs/{job_id}"), job_id=job_id)
    for name, reference in sorted(job.files.items()):
        output.say(f"Fetching {name} …")
        _fetch_blob(api, folder.store, reference.root, "file")
    materialise(job, folder.store, folder.files)
    write_aside(folder.job_path, job.to_bytes())
    return job


def _fetch_records(output: Output, api: Api, folder: PublicFolder, network: Network, job: Job) -> list[SignedRecord]:
    """The whole chain, verified, and then written."""
    from dataclasses import asdict

    from anynode.rounds import wire
    from anynode.rounds.chain import verify
    from anynode_contracts.canonical import canonical_json
    from anynode_contracts.files import write_aside
    from anynode_contracts.signing import SigningDomain

    records: list[SignedRecord] = []
    while True:
        more = wire.parse_records(api.ask("GET", f"/v1/jobs/{job.job_id}/records?from={len(records)}"))
        if not more:
            break
        records.extend(more)
    verify(records, job.job_id, SigningDomain(network.chain_id, network.registry), network.verifiers)
    lines = b"".join(canonical_json(asdict(signed)) + b"\n" for signed in records)
    write_aside(folder.records_path, lines)
    output.say(f"{len(records)} records, each signed by a verifier of the network")
    return records


def _fetch_results(output: Output, api: Api, folder: PublicFolder, records: list[SignedRecord]) -> None:
    hashes = [
        entry.result for signed in records if signed.record.body.kind == "result" for entry in signed.record.body.chunks
    ]
    output.say(f"Fetching {len(hashes)} averaged chunks …")
    for digest in hashes:
        _fetch_bytes(api, folder.store, digest)


def _fetch_blob(api: Api, store: BlobStore, root: str, kind: str) -> Manifest:
    _fetch_bytes(api, store, root)
    manifest = store.manifest(root, kind)
    for chunk in manifest.chunks:
        _fetch_bytes(api, store, chunk.hash)
    return manifest


def _fetch_bytes(api: Api, store: BlobStore, digest: str) -> None:
    if store.has(digest):
        return
    if store.put(api.ask("GET", f"/v1/blobs/{digest}")) != digest:
        raise RefusedError(f"the verifier sent other bytes than {digest[:16]}…; ask another one")


def _newest_root(records: list[SignedRecord]) -> str:
    roots = [signed.record.body.state_root for signed in records if signed.record.body.kind in ("begin", "close")]
    if not roots:
        raise RefusedError("the job has not begun, so there is no result yet; wait until workers have joined")
    return str(roots[-1])


async def _export(folder: PublicFolder, state_root: str) -> None:
    from anynode.training.process import Trainer

    async with await Trainer.start(folder.store.folder, folder.files) as trainer:
        await trainer.export(state_root, folder.model_path)
