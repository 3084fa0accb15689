"""`anynode verifier leave`: take a verifier out of the set, and its stake back when its time has come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.fees import affordable_fee_wei, receipt_facts
from anynode.cli.options import chain_of, load_network, network_option, password, password_option
from anynode.cli.output import Output, reports
from anynode.cli.roles import role_name, role_wallet
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode_contracts.errors import UserError
from anynode_verifier.options import number_option

if TYPE_CHECKING:
    from typing import Any

    from anynode_verifier.departure import Departure

#: More than resigning and asking back take, after another step.
_GAS_AFTER = 250_000


@click.command()
@network_option
@number_option
@password_option
@click.option("--last", is_flag=True, help="Leave although no verifier is in the set then, and no root can be posted.")
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def leave(output: Output, *, network: str, number: int, password_file: Path | None, last: bool, dry_run: bool) -> None:
    """Take a verifier out of the set and ask its whole stake back; 14 days later the same command withdraws it.

    Give out a network file without it first, and let it run until its jobs are over. Its wallet pays the gas, and the
    stake goes to its payout account. Until it is withdrawn it answers for what was signed. Stopped anywhere, the same
    command goes on.

    \b
    Example:
      anynode verifier leave --network sepolia.toml --number 2 --dry-run
      anynode verifier leave --network sepolia.toml --number 2
    """
    from anynode_contracts.calls import send
    from anynode_verifier.departure import call_of, look

    known = load_network(network)
    path = role_wallet(known.name, role_name("verifier", number))
    node = keystore.read(path).address
    w3 = chain_of(known)
    found = look(w3, known, node)
    steps = found.steps
    output.say(f"Verifier {node}: {found}")
    if found.leaves_nobody and not last:
        raise UserError(
            f"{node} is the only verifier of network {known.name}: without one no root can be posted, and nothing that "
            "is not paid yet would be; let the admin add another one first, or say --last"
        )
    sent: dict[str, dict[str, str]] = {}
    if steps:
        fee_wei = affordable_fee_wei(w3, call_of(w3, known, found, steps[0]), node, _GAS_AFTER)
        if dry_run:
            output.say(f"Dry run: {', '.join(steps)} for at most {show_wei(fee_wei)} ETH of gas; nothing was sent.")
        else:
            account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
            for step in steps:
                sent[step] = receipt_facts(send(w3, account, call_of(w3, known, found, step)))
                output.say(f"{step}: transaction {sent[step]['transaction']}")
            found = look(w3, known, node)
            output.say(f"Now: {found}")
    if sent or not steps:
        output.say(found.remaining)
    output.result({"network": known.name, "verifier": node, "steps": list(steps), "sent": sent} | _facts(found))


def _facts(found: Departure) -> dict[str, Any]:
    stake = found.stake
    return {
        "index": found.index,
        "standing": found.standing.name.lower(),
        "active_wei": str(stake.active_wei),
        "unbonding_wei": str(stake.unbonding_wei),
        "frozen_wei": str(stake.frozen_wei),
        "withdrawable_at_s": stake.withdrawable_at_s,
        "payout": found.payout,
    }
