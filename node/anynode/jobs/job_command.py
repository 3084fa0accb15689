"""The command group `anynode job`: start a job file and look at what it resolves to."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from anynode_contracts.errors import UserError


@click.group()
def job() -> None:
    """Write and check job files."""


@job.command()
@click.option("--model", type=click.Path(path_type=Path), default=Path("model"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("job.toml"), show_default=True)
def new(model: Path, data: Path, batch_size: int, out: Path) -> None:
    """Write a commented job.toml with every key.

    Example: anynode job new --model model/ --data data/ --out job.toml
    """
    from anynode.blobs.store import write_atomically  # noqa: PLC0415 - keeps `anynode --help` fast
    from anynode.jobs.jobfile import example  # noqa: PLC0415

    if out.exists():
        raise UserError(f"{out} exists; remove it or choose another --out")
    write_atomically(out, example(model.as_posix(), data.as_posix(), batch_size).encode())
    click.echo(f"{out}: set the name, the learning rate and the pay, then run `anynode job check {out}`")


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
    training = resolved.training
    samples = training.rounds * training.inner_steps * training.batch_size * resolved.workers.max_workers
    click.echo(f"{path} is a valid job: {resolved.name}, {resolved.model.parameters} parameters")
    click.echo(f"id {resolved.job_id}")
    click.echo(f"cost at most {min(samples * resolved.pay.price_wei_per_sample, resolved.pay.budget_wei)} wei")
