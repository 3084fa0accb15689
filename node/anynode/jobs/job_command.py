"""The command group `anynode job`: job files, and the end of a job in escrow."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.fees import affordable_fee_wei, receipt_facts
from anynode.cli.job_ids import whole_job_id
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
from anynode.jobs.ending import EscrowView, what_cancelling_does, why_not_cancelled, why_not_refunded
from anynode.wallet.amounts import show_wei
from anynode.wallet.times import show_time
from anynode_contracts.errors import RefusedError, UserError, invariant

if TYPE_CHECKING:
    from anynode_contracts.clients import EscrowClient


@click.group()
def job() -> None:
    """Write and check job files; cancel a job, and take back what it did not spend.

    \b
    Example:
      anynode job new --out job.toml
      anynode job check job.toml
    """


@job.command()
@click.option("--model", type=click.Path(path_type=Path), default=Path("model"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("job.toml"), show_default=True)
@reports
def new(output: Output, *, model: Path, data: Path, batch_size: int, out: Path) -> None:
    """Write a commented job.toml with every key.

    If the model is there already and is a language model, the file suggests the optimizer that suits it best.

    Example: anynode job new --model model/ --data data/ --out job.toml
    """
    from anynode.jobs.jobfile import example  # noqa: PLC0415
    from anynode.jobs.suggestion import suggested_for  # noqa: PLC0415
    from anynode_contracts.files import write_aside  # noqa: PLC0415 - keeps `anynode --help` fast

    if out.exists():
        raise UserError(f"{out} exists; remove it or choose another --out")
    training = suggested_for(out.parent / model / "model.json")
    write_aside(out, example(model.as_posix(), data.as_posix(), batch_size, training).encode())
    output.say(f"{out}: set the name, the learning rate and the pay, then run `anynode job check {out}`")
    output.result({"path": str(out)})


@job.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the job in its canonical form.")
def check(path: Path, as_json: bool) -> None:
    """Check a job file with its model and data, and print the job's id and greatest cost.

    Example: anynode job check job.toml
    """
    from anynode.blobs.store import BlobStore  # noqa: PLC0415 - torch is slow to import
    from anynode.jobs.resolve import resolve  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="anynode-check-") as folder:
        resolved = resolve(path, BlobStore(Path(folder)))
    if as_json:
        click.echo(json.dumps({"job_id": resolved.job_id, **resolved.to_canonical()}))
        return
    click.echo(f"{path} is a valid job: {resolved.name}, {resolved.model.parameters} parameters")
    click.echo(f"id {resolved.job_id}")
    click.echo(f"cost at most {show_wei(resolved.cost_max_wei)} ANY")


@job.command()
@click.argument("job_id", metavar="ID")
@network_option
@wallet_option
@password_option
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def cancel(
    output: Output, *, job_id: str, network: str, wallet: str, password_file: Path | None, dry_run: bool
) -> None:
    """End a job before its time, for good. Only its owner may; the id's first digits will do.

    No round is opened any more. What was accepted until then is paid all the same; what is left can be taken back with
    `anynode job refund` when the job's final root is active, and 30 days later in any case.

    \b
    Example:
      anynode job cancel 5f2c… --network development --wallet development-owner --dry-run
      anynode job cancel 5f2c… --network development --wallet development-owner
    """
    from anynode.wallet import keystore  # noqa: PLC0415
    from anynode_contracts.calls import send  # noqa: PLC0415 - brings web3, which is slow to import
    from anynode_contracts.clients import EscrowClient  # noqa: PLC0415

    known = load_network(network)
    path = chosen_wallet(wallet)
    whole_id = whole_job_id(known, job_id)
    w3 = chain_of(known)
    escrow = EscrowClient(w3, known.escrow)
    view, owner = _view(escrow, whole_id), keystore.read(path).address
    if why_not := why_not_cancelled(view, owner):
        raise UserError(why_not)
    call = escrow.build_cancel(whole_id)
    fee_wei = affordable_fee_wei(w3, call, owner)
    for sentence in what_cancelling_does(view):
        output.say(sentence)
    facts = {"job_id": whole_id, "owner": owner, "in_escrow_wei": str(view.job.remaining_wei)}
    if dry_run:
        output.say(f"Dry run: this would cost at most {show_wei(fee_wei)} ETH of gas, and nothing was sent.")
        output.result(facts | {"cancelled": False, "fee_wei_max": str(fee_wei)})
        return
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    sent = receipt_facts(send(w3, account, call))
    ended = _view(escrow, whole_id)
    invariant(ended.job.cancelled, "a cancellation that succeeded has cancelled the job")
    output.say(
        f"The job is cancelled in transaction {sent['transaction']}; take back what is left with `anynode job refund"
        f" {whole_id[:16]}`, from {show_time(ended.refund_from_s)} on in any case"
    )
    output.result(facts | {"cancelled": True, "refund_from_s": ended.refund_from_s} | sent)


@job.command()
@click.argument("job_id", metavar="ID")
@network_option
@wallet_option
@password_option
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def refund(
    output: Output, *, job_id: str, network: str, wallet: str, password_file: Path | None, dry_run: bool
) -> None:
    """Send what is left of a job's budget back to its owner. The first digits of the job's id will do.

    Possible when the job's final root is active, or 30 days after its deadline, which `anynode job cancel` brings
    forward. Anybody may send it.

    \b
    Example:
      anynode job refund 5f2c… --network development --wallet development-owner --dry-run
      anynode job refund 5f2c… --network development --wallet development-owner
    """
    from anynode.wallet import keystore  # noqa: PLC0415
    from anynode_contracts.calls import send  # noqa: PLC0415 - brings web3, which is slow to import
    from anynode_contracts.clients import EscrowClient  # noqa: PLC0415

    known = load_network(network)
    path = chosen_wallet(wallet)
    whole_id = whole_job_id(known, job_id)
    w3 = chain_of(known)
    escrow = EscrowClient(w3, known.escrow)
    view = _view(escrow, whole_id)
    found, call = view.job, escrow.build_refund(whole_id)
    if found.refunded:
        raise UserError(f"{view.name} was refunded already; {show_wei(found.refunded_wei)} ANY went to {found.owner}")
    try:
        fee_wei = affordable_fee_wei(w3, call, keystore.read(path).address)
    except RefusedError as error:
        if "RefundTooEarly" in str(error):
            raise RefusedError(why_not_refunded(view)) from error
        raise
    facts = {"job_id": whole_id, "owner": found.owner}
    if dry_run:
        output.say(
            f"Dry run: this would send {show_wei(found.remaining_wei)} ANY back to {found.owner} and cost at most "
            f"{show_wei(fee_wei)} ETH of gas; nothing was sent."
        )
        output.result(facts | {"refundable_wei": str(found.remaining_wei), "fee_wei_max": str(fee_wei)})
        return
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    sent = receipt_facts(send(w3, account, call))
    refunded_wei = _view(escrow, whole_id).job.refunded_wei
    output.say(f"{show_wei(refunded_wei)} ANY went back to {found.owner} in transaction {sent['transaction']}")
    output.result(facts | {"refunded_wei": str(refunded_wei)} | sent)


def _view(escrow: EscrowClient, job_id: str) -> EscrowView:
    """The job as the newest block has it. Raises ``UserError`` if the escrow does not know it."""
    block = escrow.w3.eth.get_block("latest")
    found = escrow.job(job_id, block=block["number"])
    if found is None:
        raise UserError(f"the escrow knows no job {job_id[:16]}…; see `anynode status`, or choose its --network")
    return EscrowView(job_id, found, block["timestamp"], escrow.refund_delay_s())
