"""`anynode result`: fetch what a job has trained, with the public records that prove it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.api import Api
from anynode.cli.job_ids import whole_job_id
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


#: A verifier keeps its newest states only, three by default.
STATES_TRIED = 3


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER")
@network_option
@click.option("--job", "job_id", metavar="ID", help="Which job, by its id or the first digits. Default: the only one.")
@reports
def result(output: Output, *, out: Path, network: str, job_id: str | None) -> None:
    """Write a job's trained model, its record chain, its results and the ledger into FOLDER.

    Signatures and hashes are checked on the way; `anynode audit FOLDER` then recomputes what they stand for. Of a job
    that still runs it writes what there is by now. Repeating it fetches only what is missing.

    \b
    Example:
      anynode result result/ --network development
      anynode audit result/
    """
    from anynode.rounds.public import PublicFolder

    known = load_network(network)
    api = Api(known)
    chosen = whole_job_id(known, job_id) if job_id else _only_job(api)
    folder = PublicFolder(out)
    job = _fetch_job(output, api, folder, chosen)
    records, ledger = _fetch_records(api, known, job)
    _write(output, folder, records, ledger)
    known.save(folder.network_path)
    _fetch_results(output, api, folder, records)
    facts: dict[str, object] = {"job_id": job.job_id, "records": len(records), "folder": str(out)}
    roots = _state_roots(records)
    if not roots:
        output.say("The job has not begun, so there is no model yet; fetch it again when workers have joined")
        output.result(facts | {"state_root": None, "model": None})
        return
    state_root = _fetch_state(api, folder.store, roots)
    asyncio.run(_export(folder, state_root))
    output.say(f"The model is in {folder.model_path}; check it all with `anynode audit {out}`")
    output.result(facts | {"state_root": state_root, "model": str(folder.model_path)})


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


def _fetch_records(api: Api, network: Network, job: Job) -> tuple[list[SignedRecord], bytes]:
    """The whole chain, verified, and the ledger, which has booked nothing that these records do not say: what comes to
    be booked while they are fetched stands in records that are fetched after it.
    """
    from anynode.rounds.certificates import Verifiers
    from anynode.rounds.chain import verify
    from anynode_contracts.signing import SigningDomain

    records: list[SignedRecord] = []
    _fetch_more(api, job, records)
    ledger = api.ask("GET", "/v1/ledger")
    _fetch_more(api, job, records)
    verify(records, job.job_id, SigningDomain(network.chain_id, network.registry), Verifiers.of(network))
    return records, ledger


def _fetch_more(api: Api, job: Job, records: list[SignedRecord]) -> None:
    from anynode.rounds import wire

    while more := wire.parse_records(api.ask("GET", f"/v1/jobs/{job.job_id}/records?from={len(records)}")):
        records.extend(more)


def _write(output: Output, folder: PublicFolder, records: list[SignedRecord], ledger: bytes) -> None:
    from dataclasses import asdict

    from anynode_contracts.canonical import canonical_json
    from anynode_contracts.files import write_aside

    lines = b"".join(canonical_json(asdict(signed)) + b"\n" for signed in records)
    write_aside(folder.records_path, lines)
    write_aside(folder.ledger_path, ledger)
    output.say(f"{len(records)} records, each signed by enough verifiers of the network")


def _fetch_results(output: Output, api: Api, folder: PublicFolder, records: list[SignedRecord]) -> None:
    hashes = [
        entry.result for signed in records if signed.record.body.kind == "result" for entry in signed.record.body.chunks
    ]
    for signed in records:
        if signed.record.body.kind == "correct":
            hashes += [digest for item in signed.record.body.rounds for digest in item.results]
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


def _state_roots(records: list[SignedRecord]) -> list[str]:
    """The roots of the states that the records name, newest first."""
    roots = [
        signed.record.body.state_root for signed in records if signed.record.body.kind in ("begin", "close", "correct")
    ]
    return list(dict.fromkeys(reversed(roots)))


def _fetch_state(api: Api, store: BlobStore, roots: list[str]) -> str:
    """The newest state that the verifier gives out: of one closed a moment ago it may not have the bytes yet."""
    for root in roots[:STATES_TRIED]:
        try:
            _fetch_blob(api, store, root, "state")
        except RefusedError as error:
            refused = error
        else:
            return root
    raise refused


async def _export(folder: PublicFolder, state_root: str) -> None:
    from anynode.training.process import Trainer

    async with await Trainer.start(folder.store.folder, folder.files) as trainer:
        await trainer.export(state_root, folder.model_path)
