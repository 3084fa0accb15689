"""`anynode verifier`: coordinate rounds, audit work and settle pay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import load_network, network_option, password, password_option, places
from anynode.cli.output import Output, reports
from anynode.cli.roles import identity_path, place_of, role_name, role_path, role_wallet
from anynode.cli.running import log_to, run_until_stopped
from anynode.cli.watch_options import watch_options
from anynode.wallet import keystore
from anynode_verifier.calibrate_command import calibrate
from anynode_verifier.excise_command import excise
from anynode_verifier.leave_command import leave
from anynode_verifier.options import asked_option, number_option
from anynode_verifier.prepare_command import prepare
from anynode_verifier.stake_command import stake
from anynode_verifier.watch_command import watch

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from anynode.watch.logs import LogFormat
    from anynode.worker.early import EarlyTrainers
    from anynode_contracts.networks import Network
    from anynode_verifier.metrics import VerifierMetrics

    Accounts = dict[str, LocalAccount]


@click.group()
def verifier() -> None:
    """Coordinate rounds, audit work by recomputation, keep the ledger and post reward roots.

    \b
    Example:
      anynode verifier run --network development
    """


verifier.add_command(calibrate)
verifier.add_command(excise)
verifier.add_command(leave)
verifier.add_command(prepare)
verifier.add_command(stake)
verifier.add_command(watch)


@verifier.command()
@network_option
@password_option
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where jobs, states and the ledger are kept. Default: AnyNode's data folder.",
)
@click.option("--database", metavar="URL", help="SQLAlchemy URL of the ledger. Default: SQLite in the folder.")
@click.option(
    "--audit-floor",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="At least this share of a worker's rounds is replayed, whatever is at risk. Newcomers are always replayed.",
)
@click.option(
    "--batch-hours",
    type=click.FloatRange(min=0.001),
    default=24.0,
    show_default=True,
    help="Time between reward roots.",
)
@click.option(
    "--alive-s",
    type=click.FloatRange(min=2),
    default=15.0,
    show_default=True,
    help="A member that is silent for so long is no longer waited for.",
)
@number_option
@click.option("--host", help="Listen here, where the network file has a router's address. Default: as it says.")
@click.option("--api-url", metavar="URL", help="Where this one serves its API. Default: as the network file says.")
@watch_options
@reports
def run(
    output: Output,
    *,
    network: str,
    password_file: Path | None,
    folder: Path | None,
    database: str | None,
    audit_floor: float,
    batch_hours: float,
    alive_s: float,
    number: int,
    host: str | None,
    api_url: str | None,
    metrics_port: int | None,
    metrics_host: str,
    log_format: LogFormat,
) -> None:
    """Run the verifier of a network until Ctrl-C. A restart goes on where it stopped.

    It uses the wallets NETWORK-verifier (signs records, pays registrations), NETWORK-poster (posts roots) and, if it is
    there, NETWORK-slasher (proposes slashes). The first verifier settles and posts. Further ones (--number) use
    NETWORK-verifier-2 and so on; they sign and coordinate, and write nothing to the chain but appeals against slashes.

    \b
    Example:
      anynode verifier run --network development --password-file password
    """
    from anynode.watch.serving import metrics_served
    from anynode.worker.early import EarlyTrainers
    from anynode_verifier.resuming import coordinator_keepers

    known = load_network(network)
    own = places()
    name = role_name("verifier", number)
    home = folder or own.data / "verifiers" / (known.name if number == 1 else f"{known.name}-{number}")
    paths = {"verifier": role_wallet(known.name, name)}
    if name == "verifier":
        paths["poster"] = role_wallet(known.name, "poster")
    place_of(known, keystore.read(paths["verifier"]).address)
    secret = password(password_file, f"the wallets of network {known.name}")
    slasher = _slasher(known, secret) if name == "verifier" else None
    identity = identity_path(known.name, name)
    log_to(home / "verifier.log", logging.INFO, log_format)

    def prepared() -> tuple[VerifierMetrics, Callable[[EarlyTrainers, Accounts], Awaitable[None]]]:
        from anynode_verifier.daemon import serve
        from anynode_verifier.metrics import VerifierMetrics
        from anynode_verifier.service import VerifierSettings

        settings = VerifierSettings(
            folder=home,
            database_url=database or f"sqlite:///{home / 'ledger.sqlite'}",
            audit_floor=audit_floor,
            alive_s=alive_s,
            batch_interval_s=batch_hours * 3600,
        )
        metrics = VerifierMetrics()
        return metrics, lambda early, accounts: serve(
            settings,
            known,
            identity,
            node=accounts["verifier"],
            poster=accounts.get("poster"),
            slasher=slasher,
            host=host,
            api_url=api_url or known.api_url,
            early=early,
            say=output.say,
            on_ready=metrics.watch,
        )

    async def work() -> None:
        async with EarlyTrainers(coordinator_keepers(home)) as early:
            # Each of it takes seconds, and the members of a restarted verifier wait: unlocking the wallets, importing,
            # and the start of the training processes of the jobs of before.
            (metrics, serving), accounts = await asyncio.gather(asyncio.to_thread(prepared), _unlocked(paths, secret))
            with metrics_served(metrics, metrics_host, metrics_port) as url:
                if url:
                    output.say(f"Metrics are at {url}")
                await serving(early, accounts)

    run_until_stopped(work())
    output.say("The verifier has stopped; start it again to go on.")


@verifier.command()
@network_option
@asked_option
@reports
def status(output: Output, *, network: str, api_url: str | None) -> None:
    """Show who coordinates each job, how many must sign its records, and who is proven to lie.

    \b
    Example:
      anynode verifier status --network development
    """
    from anynode.cli.api import Api

    known = load_network(network)
    facts = Api(known, api_url).get("/v1/status")
    jobs = facts["jobs"]
    rows = []
    for job in jobs:
        agreed = job["quorum"]
        needed = f"{agreed['signatures_needed']} of {len(agreed['verifiers']) - len(agreed['excluded'])}"
        lied = ", ".join(f"{verifier} ({signed})" for verifier, signed in agreed["broken_words"].items())
        withheld = ", ".join(f"round {item['round']}: {item['verifier']}" for item in agreed["withheld"])
        rows.append((job["name"], agreed["on_duty"], agreed["view"], needed, lied or "nobody", withheld or "none"))
    heads = ("job", "on duty", "view", "signatures", "proven to lie", "audit secrets withheld")
    output.table(heads, rows)
    accused = facts["accused"]
    if accused:
        output.table(("accused on the chain", "how far"), [(item["verifier"], item["note"]) for item in accused])
    agreements = [{"job_id": job["job_id"], "name": job["name"], **job["quorum"]} for job in jobs]
    output.result({"jobs": agreements, "accused": accused})


async def _unlocked(paths: dict[str, Path], secret: str) -> Accounts:
    """A verifier's keys, all unlocked at once."""
    opened = (asyncio.to_thread(keystore.unlock, path, secret) for path in paths.values())
    return dict(zip(paths, await asyncio.gather(*opened), strict=True))


def _slasher(network: Network, secret: str) -> Callable[[], LocalAccount] | None:
    """How to unlock the slasher's wallet; none where it is kept elsewhere, by who proposes slashes there."""
    path = role_path(network.name, "slasher")
    return (lambda: keystore.unlock(path, secret)) if path.exists() else None
