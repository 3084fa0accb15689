"""`anynode appeal`: ask, once for each rejection, that rejected work is replayed once more."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from anynode.cli.api import Api
from anynode.cli.job_ids import listed_job
from anynode.cli.options import chosen_wallet, load_network, network_option, password, password_option, wallet_option
from anynode.cli.output import Output, reports
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError


@click.command()
@network_option
@wallet_option
@password_option
@click.option("--job", "job_id", required=True, metavar="ID", help="The job, by its id or the first digits.")
@click.option("--round", "round_", required=True, type=click.IntRange(0, 2**48), help="The round of the rejected work.")
@reports
def appeal(output: Output, *, network: str, wallet: str, password_file: Path | None, job_id: str, round_: int) -> None:
    """Appeal against the rejection of this node's work in one round.

    The work is replayed once more, whole and in a fresh process, and by every verifier that signs what comes of it. If
    its bits are equal the work is paid, what was slashed comes back, and the node may join again. If they differ the
    rejection stands, and the cost of the replay comes out of what was slashed. There is one appeal for each rejection,
    until 32 rounds later or until the job is closed.

    \b
    Example:
      anynode status --node 0x… --json
      anynode appeal --network development --wallet miner --job 3f9a… --round 4
    """
    from anynode.rounds.appeals import Appeal
    from anynode.rounds.statements import statement
    from anynode.wallet import keystore
    from anynode_contracts.signing import SigningDomain, sign

    known, path = load_network(network), chosen_wallet(wallet)
    api = Api(known)
    job = listed_job(api, job_id)
    node = keystore.read(path).address
    whole_id = job["job_id"]
    if not any((item["node"], item["round"]) == (node, round_) for item in job["rejected"]):
        raise RefusedError(f"no verdict has rejected work of {node} in round {round_}; see `anynode status --node`")
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    asked = Appeal("appeal", node, round_)
    domain = SigningDomain(known.chain_id, known.registry)
    signed = replace(asked, signature=sign(account, domain, statement(whole_id, asked)))
    api.post(f"/v1/jobs/{whole_id}/appeals", canonical_json(asdict(signed)))
    output.say(f"The appeal against round {round_} is taken in; `anynode status --node {node}` shows what comes of it.")
    output.result({"job_id": whole_id, "round": round_, "node": node, "taken_in": True})
