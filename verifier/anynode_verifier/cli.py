"""`anynode verifier`: coordinate rounds, audit work and settle pay."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import load_network, network_option, password, password_option, places
from anynode.cli.output import Output, reports
from anynode.cli.running import log_to, run_until_stopped
from anynode.cli.watch_options import watch_options
from anynode.wallet import keystore
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from anynode.watch.logs import LogFormat


@click.group()
def verifier() -> None:
    """Coordinate rounds, audit work by recomputation, keep the ledger and post reward roots.

    \b
    Example:
      anynode verifier run --network development
    """


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
    default=0.1,
    show_default=True,
    help="Share of a long-proven worker's rounds that is replayed. Newcomers are always replayed.",
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
    metrics_port: int | None,
    metrics_host: str,
    log_format: LogFormat,
) -> None:
    """Run the verifier of a network until Ctrl-C. A restart goes on where it stopped.

    It uses the wallets NETWORK-verifier (signs records, pays registrations) and NETWORK-poster (posts roots).

    \b
    Example:
      anynode verifier run --network development --password-file password
    """
    from anynode.watch.serving import metrics_served
    from anynode_verifier.daemon import serve
    from anynode_verifier.metrics import VerifierMetrics
    from anynode_verifier.service import VerifierSettings

    known = load_network(network)
    home = folder or places().data / "verifiers" / known.name
    secret = password(password_file, f"the wallets of network {known.name}")
    accounts = {role: _unlock(known.name, role, secret) for role in ("verifier", "poster")}
    if accounts["verifier"].address not in known.verifiers:
        raise UserError(
            f"{accounts['verifier'].address} is no verifier of network {known.name}; check the network file"
        )
    log_to(home / "verifier.log", logging.INFO, log_format)
    settings = VerifierSettings(
        folder=home,
        database_url=database or f"sqlite:///{home / 'ledger.sqlite'}",
        audit_floor=audit_floor,
        alive_s=alive_s,
        batch_interval_s=batch_hours * 3600,
    )
    identity = places().identities / f"{known.name}-verifier.key"
    metrics = VerifierMetrics()
    with metrics_served(metrics, metrics_host, metrics_port) as url:
        if url:
            output.say(f"Metrics are at {url}")
        run_until_stopped(
            serve(
                settings,
                known,
                identity,
                node=accounts["verifier"],
                poster=accounts["poster"],
                say=output.say,
                on_ready=metrics.watch,
            )
        )
    output.say("The verifier has stopped; start it again to go on.")


def _unlock(network: str, role: str, secret: str) -> LocalAccount:
    path = keystore.wallet_path(places().wallets, f"{network}-{role}")
    if not path.exists():
        raise UserError(f"no wallet {path}; only who ran `anynode network init` for {network} can run its verifier")
    return keystore.unlock(path, secret)
