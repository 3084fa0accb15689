"""`anynode verifier excise`: take work that was proven a fraud out of a running job's model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anynode.cli.api import Api
from anynode.cli.options import load_network, network_option, password, password_option
from anynode.cli.output import Output, reports
from anynode.cli.roles import role_name, role_wallet
from anynode.wallet import keystore
from anynode_contracts.errors import RefusedError, UserError
from anynode_verifier.options import asked_option, number_option

PAUSE_S = 1.0


@click.command()
@click.argument("job", metavar="JOB")
@network_option
@password_option
@click.option("--round", "rounds", type=click.IntRange(min=0), multiple=True, required=True, help="The round, …")
@click.option("--slot", "slots", type=click.IntRange(min=0), multiple=True, required=True, help="… and its slot.")
@number_option
@asked_option
@reports
def excise(
    output: Output,
    *,
    job: str,
    network: str,
    password_file: Path | None,
    rounds: tuple[int, ...],
    slots: tuple[int, ...],
    number: int,
    api_url: str | None,
) -> None:
    """Take the work of a slot out of the model of JOB, and exclude its node.

    JOB is the job's id or its first digits. The work must have been rejected, or it is replayed now and must differ.
    The verifier then averages the round again without it, takes the outer steps since then once more, and lets the job
    go on from there. It reaches back 32 rounds. Give --round and --slot several times to take out several at once.
    Of several verifiers the one on duty for JOB is asked, with the wallet of any, and a quorum repeats all of this
    before it is recorded.

    \b
    Example:
      anynode verifier excise 3fa9 --round 17 --slot 2 --network development
      anynode verifier excise 3fa9 --round 17 --slot 2 --number 2 --api-url http://127.0.0.1:8702
    """
    if len(rounds) != len(slots):
        raise UserError("each --round needs its --slot; give both equally often")
    known = load_network(network)
    path = role_wallet(known.name, role_name("verifier", number))
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))

    from anynode_contracts.canonical import canonical_json
    from anynode_contracts.signing import SigningDomain, sign
    from anynode_verifier.excision import ExcisionRequest, excision_statement

    api = Api(known, api_url)
    job_id, height = _found(api, job)
    pairs = tuple(sorted(set(zip(rounds, slots, strict=True))))
    domain = SigningDomain(known.chain_id, known.registry)
    signed = ExcisionRequest(pairs, height, sign(account, domain, excision_statement(job_id, pairs, height)))
    said = ""
    for answer in _asked(api, job_id, canonical_json(asdict(signed))):
        if answer["recorded"]:
            output.say(f"Recorded in the place of round {answer['round']}: state {answer['state_root'][:16]}…")
            output.result(answer | {"job_id": job_id})
            return
        words = "It waits for the round to close …" if answer["waiting"] else "The verifier checks and averages again …"
        if words != said:
            output.say(words)
            said = words


def _asked(api: Api, job_id: str, request: bytes) -> Iterator[dict[str, Any]]:
    """The verifier's answers, asked for again and again: the request may be repeated."""
    while True:
        yield api.post(f"/v1/jobs/{job_id}/excise", request)
        time.sleep(PAUSE_S)


def _found(api: Api, job: str) -> tuple[str, int]:
    """The whole id of a job, and how many records it has."""
    jobs = api.get("/v1/status")["jobs"]
    found = [(str(item["job_id"]), int(item["height"])) for item in jobs if str(item["job_id"]).startswith(job)]
    if len(found) != 1:
        raise RefusedError(f"{len(found)} jobs begin with {job[:64]}; name one that `anynode status` lists")
    return found[0]
