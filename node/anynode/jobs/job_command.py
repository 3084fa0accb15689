"""The command group `anynode job`: start a job file and look at what it resolves to."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

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
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError


@click.group()
def job() -> None:
    """Write and check job files; take back what a job did not spend.

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
@reports
def refund(output: Output, *, job_id: str, network: str, wallet: str, password_file: Path | None) -> None:
    """Send what is left of a job's budget back to its owner.

    Possible when the job's final root is active, or 30 days after its deadline. Anybody may send it.

    \b
    Example:
      anynode job refund 5f2c… --network development --wallet development-owner
    """
    from anynode.wallet import keystore  # noqa: PLC0415
    from anynode_contracts.calls import send  # noqa: PLC0415 - brings web3, which is slow to import
    from anynode_contracts.clients import EscrowClient  # noqa: PLC0415

    known = load_network(network)
    path = chosen_wallet(wallet)
    w3 = chain_of(known)
    escrow = EscrowClient(w3, known.escrow)
    found = escrow.job(job_id)
    if found is None:
        raise UserError(f"the escrow knows no job {job_id[:16]}…; see `anynode status`")
    if found.refunded:
        raise UserError(
            f"job {job_id[:16]}… was refunded already; {show_wei(found.refunded_wei)} ANY went to {found.owner}"
        )
    left_wei = found.remaining_wei
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    send(w3, account, escrow.build_refund(job_id))
    output.say(f"{show_wei(left_wei)} ANY went back to {found.owner}")
    output.result({"job_id": job_id, "owner": found.owner, "refunded_wei": str(left_wei)})
