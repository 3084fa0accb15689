"""`anynode submit`: fund a job in escrow and hand its files to the verifier."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.api import Api
from anynode.cli.options import (
    chain_of,
    chosen_wallet,
    load_network,
    network_option,
    password,
    password_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.cli.paying import pay_in
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from anynode.blobs.store import BlobStore
    from anynode.jobs.job import Job
    from anynode_contracts.networks import Network


@click.command()
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.TOML")
@network_option
@wallet_option
@password_option
@click.option("--dry-run", is_flag=True, help="Check everything, show price and cost; pay and send nothing.")
@reports
def submit(
    output: Output, *, job_file: Path, network: str, wallet: str, password_file: Path | None, dry_run: bool
) -> None:
    """Check a job, put its budget into escrow, and hand it to the network's verifier.

    The workers of a public job see its data and its model. What is not spent comes back when the job is over.
    Submitting the same job again goes on where it broke off; nothing is paid twice.

    \b
    Example:
      anynode submit job.toml --network development --wallet development-owner --dry-run
      anynode submit job.toml --network development --wallet development-owner
    """
    known = load_network(network)
    path = chosen_wallet(wallet)
    api = Api(known)
    w3 = chain_of(known)
    api.get("/v1/status")

    from anynode.blobs.store import BlobStore
    from anynode.jobs.resolve import resolve

    with tempfile.TemporaryDirectory(prefix="anynode-submit-") as folder:
        store = BlobStore(Path(folder))
        job = resolve(job_file, store)
        _show(output, job)
        owner = keystore.read(path).address
        missing_wei = _missing_wei(w3, known, job, owner)
        facts = {"job_id": job.job_id, "name": job.name, "budget_wei": str(job.pay.budget_wei), "owner": owner}
        if dry_run:
            output.say(f"Dry run: {show_wei(missing_wei)} ANY would go into escrow; nothing was sent.")
            output.result(facts | {"funded_wei": "0", "started": False})
            return
        if missing_wei:
            account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
            _fund(output, w3, known, job, account=account, missing_wei=missing_wei)
        _hand_over(output, api, job, store)
    output.say(f"Job {job.job_id} is open to workers; watch it with `anynode status`")
    output.result(facts | {"funded_wei": str(missing_wei), "started": True})


def _show(output: Output, job: Job) -> None:
    """Price, size and cost, known before anything is paid."""
    training, workers, pay = job.training, job.workers, job.pay
    samples = training.batch_size * training.inner_steps_most * training.rounds
    output.table(
        ("of the job", "value"),
        [
            ("name", job.name),
            ("parameters", f"{job.model.parameters:,}"),
            ("training samples in the data set", f"{job.data.samples:,}"),
            ("rounds", f"{training.rounds:,}"),
            ("samples of a worker of median speed", f"{samples:,}"),
            ("workers", f"{workers.min_workers} to {workers.max_workers}"),
            ("price per million samples", f"{show_wei(pay.price_wei_per_sample * 10**6)} ANY"),
            ("cost with most workers, at most", f"{show_wei(job.cost_max_wei)} ANY"),
            ("budget", f"{show_wei(pay.budget_wei)} ANY"),
        ],
    )
    output.say(f"Job {job.job_id}")
    output.say("Whoever joins a public job sees its data.")


def _missing_wei(w3: Web3, network: Network, job: Job, owner: str) -> int:
    """What must still go into escrow. Raises ``UserError`` if the owner does not have it."""
    from anynode_contracts.clients import EscrowClient, TokenClient

    found = EscrowClient(w3, network.escrow).job(job.job_id)
    if found is not None and found.owner.lower() != owner.lower():
        raise UserError(f"job {job.job_id[:16]}… belongs to {found.owner}; use that wallet, or rename the job")
    missing = max(0, job.pay.budget_wei - (found.funded_wei if found else 0))
    balance = TokenClient(w3, network.token).balance_wei(owner)
    if balance < missing:
        raise UserError(
            f"the budget is {show_wei(job.pay.budget_wei)} ANY and {owner} has {show_wei(balance)} ANY; "
            "get tokens, or lower pay.budget in the job file"
        )
    return missing


def _fund(output: Output, w3: Web3, network: Network, job: Job, *, account: LocalAccount, missing_wei: int) -> None:
    from anynode.jobs.ending import deadline_s
    from anynode_contracts.clients import EscrowClient

    escrow = EscrowClient(w3, network.escrow)
    output.say(f"Putting {show_wei(missing_wei)} ANY into escrow …")
    if escrow.job(job.job_id) is not None:
        pay_in(w3, network, account, escrow.build_fund(job.job_id, missing_wei), missing_wei)
        return
    create = escrow.build_create(
        job.job_id,
        budget_wei=missing_wei,
        cap_per_batch_wei=job.pay.cap_per_batch_wei,
        deadline_s=deadline_s(job.pay.deadline_days, time.time(), w3.eth.get_block("latest")["timestamp"]),
    )
    pay_in(w3, network, account, create, missing_wei)


def _hand_over(output: Output, api: Api, job: Job, store: BlobStore) -> None:
    """Send what the verifier lacks, then start the job there."""
    missing = api.post("/v1/jobs", job.to_bytes())["missing"]
    sent = 0
    while missing:
        for digest in missing:
            data = store.get(str(digest))
            left = api.put(f"/v1/jobs/{job.job_id}/blobs/{digest}", data)["missing"]
            sent += len(data)
        output.say(f"Sent {sent:,} bytes; {len(left)} blobs to go")
        missing = left
    output.say("The verifier loads the job …")
    api.post(f"/v1/jobs/{job.job_id}/start")
